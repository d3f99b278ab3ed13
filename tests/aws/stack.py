"""The template of `infra/` as a stack in the stand-in: translated, created by CloudFormation, and completed.

What the stand-in's CloudFormation does not know is created by the service's own API from the same properties
(`makers.py`). What the stand-in cannot have is in `NOWHERE`, by type; a resource of any other type that was not
created fails the run. Roles, functions, schedules and the rule are read from the template as it is resolved.
"""

import json

from asks import ACCOUNT, REGION
from makers import FINISHERS, MAKERS
from policy import statements
from resolve import REF, resolve
from translate import translated

STACK = "ingot"
CODE_BUCKET, CODE_KEY = "deployments", "ingot-processor.zip"
NOWHERE = {
    "AWS::IoT::ProvisioningTemplate": "moto has none",
    "AWS::S3::BucketPolicy": "moto does not look at conditions; the recorder holds to the policy in its place",
}


class Stack:
    def __init__(self, parameters, stand_in):
        self.stand_in = stand_in
        self.template = translated(f"s3://{CODE_BUCKET}/{CODE_KEY}")
        self.upload_code()
        self.conditions = self.template.get("Conditions", {})
        told = {name: {REF: word["Default"]} for name, word in self.template["Parameters"].items() if "Default" in word}
        told |= {name: {REF: value} for name, value in parameters.items()}
        self.known = told | {
            "AWS::Region": {REF: REGION},
            "AWS::AccountId": {REF: ACCOUNT},
            "AWS::Partition": {REF: "aws"},
            "AWS::StackName": {REF: STACK},
            "AWS::URLSuffix": {REF: "amazonaws.com"},
        }
        self.nowhere = self.create(parameters)
        self.resources = {}
        for name, resource in self.wanted().items():
            properties = resource.get("Properties", {})
            self.resources[name] = resource["Type"], resolve(properties, self.known, self.conditions)
        for kind, finish in FINISHERS.items():
            for name, properties in self.of_type(kind).items():
                finish(stand_in, self.ref(name), properties)

    def upload_code(self):
        s3 = self.stand_in.client("s3")
        s3.create_bucket(Bucket=CODE_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=CODE_BUCKET, Key=CODE_KEY, Body=b"the run starts the program itself")

    def wanted(self):
        """The template's resources whose condition holds."""
        return {
            name: resource
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource
            or resolve({"Condition": resource["Condition"]}, self.known, self.conditions)
        }

    def create(self, parameters):
        cloudformation = self.stand_in.client("cloudformation")
        told = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        cloudformation.create_stack(StackName=STACK, TemplateBody=json.dumps(self.template), Parameters=told)
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
        found = [found for page in pages for found in page["StackResourceSummaries"]]
        for created in found:
            if name := created.get("LogicalResourceId", "").strip():
                self.known[name] = attributes(created["ResourceType"], created["PhysicalResourceId"])
        missing = {name: made for name, made in self.wanted().items() if name not in self.known}
        for kind, maker in MAKERS.items():
            for name in [name for name, resource in missing.items() if resource["Type"] == kind]:
                properties = resolve(missing.pop(name)["Properties"], self.known, self.conditions)
                self.known[name] = {REF: maker(self.stand_in, properties)}
        if strangers := {name: made["Type"] for name, made in missing.items() if made["Type"] not in NOWHERE}:
            raise AssertionError(f"not created in the stand-in: {strangers}")
        return missing

    def of_type(self, kind):
        return {name: properties for name, (type, properties) in self.resources.items() if type == kind}

    def ref(self, name):
        return self.known[name][REF]

    def grants(self, role):
        """What the role's policies allow, by the role's name in the template."""
        properties = self.resources[role][1]
        if managed := properties.get("ManagedPolicyArns"):
            raise AssertionError(f"{role} has rights that are not in the template: {managed}")
        for policy in properties.get("Policies", []):
            yield from statements(role, policy["PolicyDocument"])

    def bucket_denials(self):
        for properties in self.of_type("AWS::S3::BucketPolicy").values():
            yield from statements("the bucket's policy", properties["PolicyDocument"], effect="Deny")

    def role_named(self, role_arn):
        return next(name for name in self.of_type("AWS::IAM::Role") if self.known[name]["Arn"] == role_arn)


def attributes(kind, physical):
    """What Ref and GetAtt give; moto tells what Ref gives."""
    name = physical.rpartition("/")[2]
    arns = {
        "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
        "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}",
        "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}",
        "AWS::S3::Bucket": f"arn:aws:s3:::{name}",
        "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{physical}:*",
    }
    named = {
        "AWS::SQS::Queue": {"QueueName": name, "QueueUrl": physical},
        "AWS::SNS::Topic": {"TopicName": physical.rpartition(":")[2], "TopicArn": physical},
    }
    return {REF: physical, "Arn": arns.get(kind)} | named.get(kind, {})
