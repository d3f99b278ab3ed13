"""What a request to AWS asks for, in the words of IAM: which actions, on which resources.

Pure: a request's parts in, a list of `Ask` out. Actions follow AWS's Service Authorization Reference; what a service asks
for beside the obvious (Glue: catalog, database and table at once) is here. A request that is not known is an
error: the recorder must not let anything pass that it cannot name.
"""

import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

REGION, ACCOUNT = "eu-west-1", "123456789012"


@dataclass(frozen=True)
class Ask:
    action: str
    resource: str
    context: dict = field(default_factory=dict, compare=False)  # condition keys, in lower case


@dataclass(frozen=True)
class Request:
    service: str  # as in the signature's scope
    method: str
    target: str  # path and query
    headers: dict  # names in lower case
    body: bytes


class Unknown(Exception):
    """A request that this file has no name for."""


def asks_of(request, workgroup_of):
    """`workgroup_of` tells the workgroup of a query's execution by its id."""
    services = {"s3": of_s3, "sqs": of_sqs, "sns": of_sns, "glue": of_glue}
    services |= {"secretsmanager": of_secret, "logs": of_logs}
    if request.service == "athena":
        return of_athena(request, workgroup_of)
    if request.service not in services:
        raise Unknown(f"the service {request.service}")
    return services[request.service](request)


def of_s3(request):
    """Path-style URLs: /bucket/key."""
    url = urlsplit(request.target)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    bucket, _, key = unquote(url.path).lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    context = {"s3:prefix": query["prefix"]} if "prefix" in query else {}
    if "if-none-match" in request.headers:
        context["s3:if-none-match"] = request.headers["if-none-match"]
    if not key:
        if request.method == "POST" and "delete" in query:
            return [deletion(arn, entry) for entry in re.findall("<Object>(.*?)</Object>", request.body.decode())]
        if request.method == "GET" and "list-type" in query:
            return [Ask("s3:ListBucket", arn, context)]
        if request.method == "GET" and "versions" in query:
            return [Ask("s3:ListBucketVersions", arn, context)]
        raise Unknown(f"{request.method} {request.target} of s3")
    match request.method:
        case "GET" | "HEAD" if "uploadId" in query:
            action = "s3:ListMultipartUploadParts"
        case "GET" | "HEAD" if not query:
            action = "s3:GetObject"
        case "PUT" | "POST" if query.keys() <= {"uploads", "uploadId", "partNumber"}:
            action = "s3:PutObject"
        case "DELETE" if "uploadId" in query:
            action = "s3:AbortMultipartUpload"
        case "DELETE" if not query:
            action = "s3:DeleteObject"
        case "DELETE" if query.keys() == {"versionId"}:
            action = "s3:DeleteObjectVersion"
        case _:
            raise Unknown(f"{request.method} {request.target} of s3")
    if action == "s3:PutObject":
        creates = "partNumber" not in query and "uploads" not in query
        context["s3:objectcreationoperation"] = str(creates).lower()
    asks = [Ask(action, f"{arn}/{key}", context)]
    if source := request.headers.get("x-amz-copy-source"):
        asks.append(Ask("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/')}"))
    return asks


def deletion(arn, entry):
    """One of the objects of a request that deletes many."""
    key = xml_text(re.search("<Key>(.*?)</Key>", entry)[1])
    return Ask("s3:DeleteObjectVersion" if "<VersionId>" in entry else "s3:DeleteObject", f"{arn}/{key}")


def xml_text(text):
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


def named(request):
    """Action and input of the JSON protocols."""
    return request.headers["x-amz-target"].rpartition(".")[2], json.loads(request.body or b"{}")


def of_sqs(request):
    action, told = named(request)
    queue = told["QueueUrl"].rpartition("/")[2]
    return [Ask(f"sqs:{action.removesuffix('Batch')}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")]


def of_sns(request):
    form = parse_qs(request.body.decode())
    return [Ask(f"sns:{form['Action'][0]}", form["TopicArn"][0])]


def of_glue(request):
    """Each call asks for the catalog, and for the database and table that it names."""
    action, told = named(request)
    database = told.get("DatabaseName") or told.get("DatabaseInput", {}).get("Name") or told.get("Name")
    paths = ["catalog", f"database/{database}"]
    if action == "GetTables":
        paths.append(f"table/{database}/*")
    elif "Table" in action:
        paths.append(f"table/{database}/{told.get('TableInput', told)['Name']}")
    return [Ask(f"glue:{action}", f"arn:aws:glue:{REGION}:{ACCOUNT}:{path}") for path in paths]


def of_athena(request, workgroup_of):
    action, told = named(request)
    workgroup = told.get("WorkGroup") or workgroup_of(told["QueryExecutionId"])
    return [Ask(f"athena:{action}", f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/{workgroup}")]


def of_secret(request):
    action, told = named(request)
    return [Ask(f"secretsmanager:{action}", told["SecretId"])]


def of_logs(request):
    action, told = named(request)
    group, stream = told["logGroupName"], told.get("logStreamName", "")
    resource = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:{stream}"
    return [Ask(f"logs:{action}", resource)]
