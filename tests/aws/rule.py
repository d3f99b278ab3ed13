"""The IoT topic rule as the template has it: which key a topic becomes, and what it says when it fails.

`ingot-processor land` plays the rule where it succeeds. Where it fails, AWS sends the message to the error action's
queue, with the rule's rights; that is done here.
"""

import base64
import json
import re

from stand_in import client


class Rule:
    def __init__(self, properties, credentials, recorder):
        self.name = properties["RuleName"]
        payload = properties["TopicRulePayload"]
        (action,) = payload["Actions"]
        self.s3, self.error = action["S3"], payload["ErrorAction"]["Sqs"]
        self.sqs = client("sqs", recorder.port, credentials)

    def key(self, topic):
        """The S3 action's key; a prefix of Basic Ingest does not count."""
        levels = topic.removeprefix(f"$aws/rules/{self.name}/").split("/")
        return re.sub(r"\$\{topic\((\d+)\)\}", lambda found: levels[int(found[1]) - 1], self.s3["Key"])

    def fail(self, topic, payload):
        """The error action: once for each message, with all that is known of it."""
        told = {
            "ruleName": self.name,
            "topic": topic,
            "cloudwatchTraceId": "7e146a2c-95b5-6caf-98b9-50e3969734c7",
            "clientId": topic.split("/")[2],
            "base64OriginalPayload": base64.b64encode(payload).decode(),
            "failures": [
                {
                    "failedAction": "S3Action",
                    "failedResource": self.s3["BucketName"],
                    "errorMessage": "Failed to put S3 object. The error received was Please reduce your request rate.",
                }
            ],
        }
        self.sqs.send_message(QueueUrl=self.error["QueueUrl"], MessageBody=json.dumps(told))
