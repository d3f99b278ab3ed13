"""The template as a stack, and a judge of policies: what tests of the template stand on."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]
ACCOUNT = "111122223333"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": ACCOUNT, "AWS::StackName": "ingot"}
WANTED = {"BucketName": "lake", "LakePrefix": "", "GatewayDirectToS3": "true", "AnalystRoleArn": "arn:aws:iam::1:role/ann"}
NOTHING = {"Ref": "AWS::NoValue"}
FUNCTIONS = ["Ingest", "Reingest", "Gold", "Maintain", "Audit", "Catalog"]


class Stack:
    """The template's resources with their parameters put in; what AWS alone knows is named by its logical name."""

    def __init__(self, source: dict, **parameters: str):
        self.source = source
        defaults = {name: str(of.get("Default", "")) for name, of in source["Parameters"].items()}
        self.values = PSEUDO | defaults | WANTED | parameters
        self.resources = {
            name: self.resolve(of)
            for name, of in source["Resources"].items()
            if "Condition" not in of or self.holds(of["Condition"])
        }

    def holds(self, name: str) -> bool:
        return self.judge(self.source["Conditions"][name])

    def judge(self, test: dict) -> bool:
        ((word, of),) = test.items()
        match word:
            case "Fn::Equals":
                return len({self.resolve(one) for one in of}) == 1
            case "Fn::Not":
                return not self.judge(of[0])
        raise AssertionError(word)

    def resolve(self, value):
        if isinstance(value, list):
            return [self.resolve(one) for one in value if self.resolve(one) != NOTHING]
        if not isinstance(value, dict):
            return value
        if value == NOTHING:
            return value
        if len(value) == 1:
            ((word, of),) = value.items()
            match word:
                case "Ref":
                    return self.values.get(of, of)
                case "Fn::GetAtt":
                    return f"{of[0]}.{of[1]}"
                case "Fn::If":
                    return self.resolve(of[1] if self.holds(of[0]) else of[2])
                case "Fn::Sub":
                    text = re.sub(r"\$\{([^!}]+)\}", lambda found: self.values.get(found[1], found[1]), of)
                    return text.replace("${!", "${")
        resolved = {name: self.resolve(of) for name, of in value.items()}
        return {name: of for name, of in resolved.items() if of != NOTHING}

    def of_type(self, wanted: str) -> dict[str, dict]:
        found = {name: of for name, of in self.resources.items() if of["Type"] == wanted}
        return {name: of.get("Properties", {}) for name, of in found.items()}

    def __getitem__(self, name: str) -> dict:
        return self.resources[name]["Properties"]

    def grants(self, role: str) -> list[dict]:
        (policy,) = self[role]["Policies"]
        assert policy["PolicyName"] == "grants"
        return policy["PolicyDocument"]["Statement"]


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def may(statements: list[dict], action: str, resource: str, variables=(), **context: str) -> bool:
    """Whether the statements let this be done. `context` has condition keys with `__` for `:` and `_` for `-`."""
    variables, context = dict(variables), {name.replace("__", ":").replace("_", "-"): of for name, of in context.items()}

    def is_like(pattern: str, text: str) -> bool:
        for name, value in variables.items():
            pattern = pattern.replace(f"${{{name}}}", value)
        assert "${" not in pattern, pattern
        return fnmatchcase(text, pattern.replace("[", "[[]"))

    def applies(statement: dict) -> bool:
        for operator, tests in statement.get("Condition", {}).items():
            for key, wanted in tests.items():
                found = context.get(key)
                match operator:
                    case "Null":
                        fits = (found is None) == (wanted == "true")
                    case "Bool" | "StringEquals" | "ArnEquals":
                        fits = found in as_list(wanted)
                    case "ArnNotEquals":
                        fits = found not in as_list(wanted)
                    case "StringLikeIfExists":
                        fits = found is None or any(is_like(pattern, found) for pattern in as_list(wanted))
                    case _:
                        raise AssertionError(operator)
                if not fits:
                    return False
        return any(is_like(one, action) for one in as_list(statement["Action"])) and any(
            is_like(one, resource) for one in as_list(statement["Resource"])
        )

    effects = {statement["Effect"] for statement in statements if applies(statement)}
    return effects == {"Allow"}
