"""The recorder's judgment: what a request asks for, and whether a policy covers it."""

import pytest
from asks import Ask, Request, Unknown, asks_of
from policy import like, statements
from resolve import REF, resolve

KEY = "arn:aws:s3:::lake/silver/a b.parquet"
PUT = {"s3:if-none-match": "*", "s3:objectcreationoperation": "true"}


def s3(method, target, headers=None, body=b""):
    return [(ask.action, ask.resource) for ask in asks(Request("s3", method, target, headers or {}, body))]


def asks(request):
    return asks_of(request, lambda query: f"workgroup-of-{query}")


@pytest.mark.parametrize(
    ("method", "target", "action"),
    [
        ("GET", "/lake/silver/a%20b.parquet", "s3:GetObject"),
        ("HEAD", "/lake/silver/a%20b.parquet", "s3:GetObject"),
        ("PUT", "/lake/silver/a%20b.parquet", "s3:PutObject"),
        ("POST", "/lake/silver/a%20b.parquet?uploads=", "s3:PutObject"),
        ("PUT", "/lake/silver/a%20b.parquet?partNumber=1&uploadId=u", "s3:PutObject"),
        ("POST", "/lake/silver/a%20b.parquet?uploadId=u", "s3:PutObject"),
        ("DELETE", "/lake/silver/a%20b.parquet?uploadId=u", "s3:AbortMultipartUpload"),
        ("DELETE", "/lake/silver/a%20b.parquet", "s3:DeleteObject"),
        ("DELETE", "/lake/silver/a%20b.parquet?versionId=v", "s3:DeleteObjectVersion"),
    ],
)
def test_a_request_for_an_object_asks_for_one_action(method, target, action):
    assert s3(method, target) == [(action, KEY)]


def test_many_deletes_in_one_request_are_many_asks():
    body = b"<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>"
    expected = [("s3:DeleteObject", "arn:aws:s3:::lake/a&b"), ("s3:DeleteObject", "arn:aws:s3:::lake/c")]
    assert s3("POST", "/lake?delete=", body=body) == expected


def test_a_copy_reads_its_source():
    asked = s3("PUT", "/lake/b", {"x-amz-copy-source": "/lake/a%2Bc"})
    assert asked == [("s3:PutObject", "arn:aws:s3:::lake/b"), ("s3:GetObject", "arn:aws:s3:::lake/a+c")]


def test_glue_is_asked_for_catalog_database_and_table():
    body = b'{"DatabaseName": "ingot", "TableInput": {"Name": "discard"}}'
    asked = asks(Request("glue", "POST", "/", {"x-amz-target": "AWSGlue.CreateTable"}, body))
    assert [ask.resource.rpartition(":")[2] for ask in asked] == [
        "catalog",
        "database/ingot",
        "table/ingot/discard",
    ]


def test_what_has_no_name_does_not_pass():
    for request in [
        Request("s3", "GET", "/lake?acl", {}, b""),
        Request("s3", "PUT", "/lake/a?tagging", {}, b""),
        Request("dynamodb", "POST", "/", {}, b"{}"),
    ]:
        with pytest.raises(Unknown):
            asks(request)


def grant(**statement):
    (found,) = statements("role", {"Statement": [{"Effect": "Allow"} | statement]})
    return found


def test_a_grant_covers_its_action_on_its_resource():
    read = grant(Action="s3:GetObject", Resource="arn:aws:s3:::lake/silver/*")
    assert read.covers(Ask("s3:GetObject", KEY))
    assert not read.covers(Ask("s3:PutObject", KEY))
    assert not read.covers(Ask("s3:GetObject", "arn:aws:s3:::lake/gold/a"))


def test_conditions_are_held_to():
    condition = {"StringLikeIfExists": {"s3:prefix": "plant-7/*"}}
    listing = grant(Action="s3:ListBucket", Resource="arn:aws:s3:::lake", Condition=condition)
    assert listing.covers(Ask("s3:ListBucket", "arn:aws:s3:::lake", {"s3:prefix": "plant-7/bronze"}))
    assert listing.covers(Ask("s3:ListBucket", "arn:aws:s3:::lake"))
    assert not listing.covers(Ask("s3:ListBucket", "arn:aws:s3:::lake", {"s3:prefix": "plant-8/"}))
    condition = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
    unconditional = grant(Action="s3:PutObject", Resource="*", Condition=condition)
    assert not unconditional.covers(Ask("s3:PutObject", KEY, PUT))
    assert unconditional.covers(Ask("s3:PutObject", KEY, PUT | {"s3:if-none-match": None}))


def test_what_is_not_understood_is_refused():
    for statement in [
        {"Action": "s3:*", "NotResource": "*"},
        {"Action": "s3:GetObject", "Resource": "*", "Condition": {"DateLessThan": {"a": "b"}}},
    ]:
        with pytest.raises(ValueError, match="not understood"):
            grant(**statement)


def test_wildcards_are_iams():
    assert like("dt=2026-01-01/a", "dt=????-??-??/*")
    assert not like("dt=2026-1-01/a", "dt=????-??-??/*")
    assert like("a[b]", "a[b]") and not like("ab", "a[b]")


def test_a_templates_functions_are_resolved():
    known = {"Bucket": {REF: "lake", "Arn": "arn:aws:s3:::lake"}, "Size": {REF: "8"}, "Mail": {REF: ""}}
    conditions = {"HasMail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Mail"}, ""]}]}}
    told = {
        "a": {"Fn::Sub": "${Bucket}/${!topic(4)}/${Bucket.Arn}"},
        "b": {"Fn::If": ["HasMail", "yes", {"Ref": "AWS::NoValue"}]},
        "c": [{"Fn::If": ["HasMail", {"x": 1}, {"Ref": "AWS::NoValue"}]}, {"Ref": "Size"}],
    }
    assert resolve(told, known, conditions) == {"a": "lake/${topic(4)}/arn:aws:s3:::lake", "c": ["8"]}
