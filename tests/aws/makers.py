"""What moto's CloudFormation does not create, or leaves unfinished: by each service's own API, from the template's
properties as they are resolved.

`MAKERS` give what Ref gives. `FINISHERS` take the resource's name, too.
"""

import json


def secret(stand_in, properties):
    wanted = properties["GenerateSecretString"]
    secrets = stand_in.client("secretsmanager")
    made = secrets.get_random_password(
        PasswordLength=wanted["PasswordLength"], ExcludePunctuation=wanted["ExcludePunctuation"]
    )
    return secrets.create_secret(Name="ingot-pseudonym-key", SecretString=made["RandomPassword"])["ARN"]


def database(stand_in, properties):
    stand_in.client("glue").create_database(DatabaseInput=properties["DatabaseInput"])
    return properties["DatabaseInput"]["Name"]


def workgroup(stand_in, properties):
    configuration = properties["WorkGroupConfiguration"]
    stand_in.client("athena").create_work_group(Name=properties["Name"], Configuration=configuration)
    return properties["Name"]


def queue_policy(stand_in, properties):
    policy = json.dumps(properties["PolicyDocument"])
    for queue in properties["Queues"]:
        stand_in.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})


def topic_policy(stand_in, properties):
    policy = json.dumps(properties["PolicyDocument"])
    for topic in properties["Topics"]:
        told = {"TopicArn": topic, "AttributeName": "Policy", "AttributeValue": policy}
        stand_in.client("sns").set_topic_attributes(**told)


def topic_rule(stand_in, properties):
    told = {"ruleName": properties["RuleName"], "topicRulePayload": lower(properties["TopicRulePayload"])}
    stand_in.client("iot").create_topic_rule(**told)
    return properties["RuleName"]


def alarm(stand_in, properties):
    properties = {name: number(value) for name, value in properties.items()}
    properties.setdefault("AlarmName", f"ingot-{len(json.dumps(properties))}")
    stand_in.client("cloudwatch").put_metric_alarm(**properties)
    return properties["AlarmName"]


def invoke_config(stand_in, properties):
    stand_in.client("lambda").put_function_event_invoke_config(
        FunctionName=properties["FunctionName"],
        MaximumRetryAttempts=properties["MaximumRetryAttempts"],
        MaximumEventAgeInSeconds=properties["MaximumEventAgeInSeconds"],
    )


def bucket(stand_in, name, properties):
    s3 = stand_in.client("s3")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"])
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration=notifications(properties)
    )


def notifications(properties):
    """The bucket's notifications as the API takes them."""
    return {
        "QueueConfigurations": [
            {
                "QueueArn": queue["Queue"],
                "Events": [queue["Event"]],
                "Filter": {"Key": {"FilterRules": queue["Filter"]["S3Key"]["Rules"]}},
            }
            for queue in properties["NotificationConfiguration"]["QueueConfigurations"]
        ]
    }


def mapping(stand_in, name, _):
    """moto would try to run the function; this run does."""
    stand_in.client("lambda").update_event_source_mapping(UUID=name, Enabled=False)


FINISHERS = {"AWS::Lambda::EventSourceMapping": mapping, "AWS::S3::Bucket": bucket}

# In this order: what others refer to comes first.
MAKERS = {
    "AWS::SecretsManager::Secret": secret,
    "AWS::Glue::Database": database,
    "AWS::Athena::WorkGroup": workgroup,
    "AWS::SQS::QueuePolicy": queue_policy,
    "AWS::SNS::TopicPolicy": topic_policy,
    "AWS::IoT::TopicRule": topic_rule,
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::Lambda::EventInvokeConfig": invoke_config,
}


def lower(value):
    """IoT's API writes its names with a small first letter."""
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: lower(item) for name, item in value.items()}
    return [lower(item) for item in value] if isinstance(value, list) else value


def number(value):
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return float(value)
    return value
