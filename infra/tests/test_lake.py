"""The bucket and the queues."""

from judge import ACCOUNT, Stack, may
from translate import template


def bucket_may(stack: Stack, action: str, key: str, role: str, **context: str) -> bool:
    everybody = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    context = {"aws__SecureTransport": "true", "aws__PrincipalArn": role} | context
    return may(everybody + stack["BucketPolicy"]["PolicyDocument"]["Statement"], action, f"arn:aws:s3:::lake/{key}", **context)


def test_bronze_is_written_once(stack):
    key, whole, once = "bronze/orders/a.csv", {"s3__ObjectCreationOperation": "true"}, {"s3__if_none_match": "*"}
    for role in [f"{name}Role.Arn" for name in ["Ingest", "Reingest", "Maintain", "Bulk"]] + ["arn:aws:iam::1:user/root"]:
        assert not bucket_may(stack, "s3:PutObject", key, role, **whole)
        assert bucket_may(stack, "s3:PutObject", key, role, **whole, **once)
    part = {"s3__ObjectCreationOperation": "false"}
    assert bucket_may(stack, "s3:PutObject", key, "IngestRole.Arn", **part)
    # An IoT rule cannot say "only if there is nothing", and forgetting rewrites.
    for role in ["RuleRole.Arn", "OperatorRole.Arn"]:
        assert bucket_may(stack, "s3:PutObject", key, role, **whole)
    assert bucket_may(stack, "s3:PutObject", "silver/orders/_delta_log/_last_checkpoint", "IngestRole.Arn", **whole)


def test_bronze_takes_no_key_that_a_listing_could_not_be_read_with(stack):
    def fits(key):
        once = {"s3__ObjectCreationOperation": "true", "s3__if_none_match": "*"}
        return bucket_may(stack, "s3:PutObject", key, "IngestRole.Arn", **once)

    for key in ["bronze//a.csv", "bronze/orders//a.csv", "bronze/orders/dt=2026-01-01//a.csv", "bronze/orders/../a", "bronze/a/./b"]:
        assert not fits(key), key
    for key in ["bronze/orders/a b+c%.csv", "bronze/orders/dt=2026-01-01/a..b.csv", "silver/a//b"]:
        assert fits(key), key


def test_bronze_is_removed_by_retention_and_operators_alone(stack):
    for role, fits in [("MaintainRole.Arn", True), ("OperatorRole.Arn", True), ("IngestRole.Arn", False), ("RuleRole.Arn", False)]:
        assert bucket_may(stack, "s3:DeleteObject", "bronze/orders/a.csv", role) == fits


def test_the_bucket_is_private_encrypted_and_stays(stack):
    assert not bucket_may(stack, "s3:GetObject", "ledger/x", "IngestRole.Arn", aws__SecureTransport="false")
    bucket = stack["Bucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    keyed = Stack(template(), BucketEncryption="aws:kms")["Bucket"]["BucketEncryption"]
    (rule,) = keyed["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] and rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "Key.Arn"
    assert stack.resources["Bucket"]["DeletionPolicy"] == "Retain"
    # A lifecycle that expired rows behind the books' back would look like loss.
    expiring = [of.get("Prefix") for of in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in of]
    assert expiring == ["athena-results/"]


def test_every_queue_is_closed_and_what_fails_is_seen(stack):
    queues, policies = stack.of_type("AWS::SQS::Queue"), stack.of_type("AWS::SQS::QueuePolicy").values()
    watched = {
        (of.get("MetricName"), dimension["Value"].removesuffix(".QueueName"))
        for of in stack.of_type("AWS::CloudWatch::Alarm").values()
        for dimension in of.get("Dimensions", [])
    }
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"], name
        (policy,) = [of for of in policies if of["Queues"] == [name]]
        closed = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": f"{name}.Arn"}
        closed |= {"Sid": "OnlyOverTls", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        assert closed in policy["PolicyDocument"]["Statement"], name
        if "RedrivePolicy" in queue:
            dead = queue["RedrivePolicy"]["deadLetterTargetArn"].removesuffix(".Arn")
            assert "RedrivePolicy" not in queues[dead]
            assert ("ApproximateAgeOfOldestMessage", name) in watched
        else:
            assert ("ApproximateNumberOfMessagesVisible", name) in watched, name


def test_the_bronze_queue_listens_to_the_lake_alone(stack):
    allowed = [of for of in stack["BronzeQueuePolicy"]["PolicyDocument"]["Statement"] if of["Effect"] == "Allow"]
    (statement,) = allowed
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    for bucket, account, fits in [("lake", ACCOUNT, True), ("other", ACCOUNT, False), ("lake", "999999999999", False)]:
        context = {"aws__SourceArn": f"arn:aws:s3:::{bucket}", "aws__SourceAccount": account}
        assert may(allowed, "sqs:SendMessage", "BronzeQueue.Arn", **context) == fits


def test_a_message_is_not_handed_out_twice_while_its_function_works(stack):
    timeout = stack.source["Globals"]["Function"]["Timeout"]
    read = set()
    for name, function in stack.of_type("AWS::Serverless::Function").items():
        for event in function["Events"].values():
            if event["Type"] == "SQS":
                queue = event["Properties"]["Queue"].removesuffix(".Arn")
                assert stack[queue]["VisibilityTimeout"] >= 6 * function.get("Timeout", timeout), name
                assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
                assert int(event["Properties"]["ScalingConfig"]["MaximumConcurrency"]) >= 2
                read.add(queue)
    assert read == {"BronzeQueue", "RuleErrorQueue"}
