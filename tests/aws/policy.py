"""What the roles of the template may do, and whether that covers an ask."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """One action on one resource: a statement with several of each is as many grants."""

    role: str
    sid: str
    action: str
    resource: str
    condition: tuple = ()  # operator, key in lower case, values

    def __str__(self):
        return f"{self.role}: {self.action} on {self.resource} ({self.sid})"

    def covers(self, ask):
        return like(ask.action, self.action) and like(ask.resource, self.resource) and self.holds(ask.context)

    def holds(self, context):
        return all(
            OPERATORS[operator](context.get(key), values) for operator, key, values in self.condition
        )


def like(text, pattern):
    """IAM's wildcards: * and ?, and nothing else is special."""
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(c, re.escape(c)) for c in pattern), text, re.DOTALL) is not None


# By operator: whether the context's value, None where there is none, fits the values.
OPERATORS = {
    "StringEquals": lambda found, values: found in values,
    "StringLike": lambda found, values: found is not None and any(like(found, v) for v in values),
    "StringLikeIfExists": lambda found, values: found is None or any(like(found, v) for v in values),
    "ArnEquals": lambda found, values: found is not None and any(like(found, v) for v in values),
    "ArnNotEquals": lambda found, values: found is None or not any(like(found, v) for v in values),
    "Bool": lambda found, values: found in values,
    "Null": lambda found, values: ("true" if found is None else "false") in values,
}


def statements(role, document, effect="Allow"):
    """The document's grants, or with `Deny` what it takes away. What this file cannot judge is refused, not ignored."""
    for statement in listed(document["Statement"]):
        if {"NotAction", "NotResource", "NotPrincipal"} & statement.keys():
            raise ValueError(f"{role}: not understood: {statement}")
        if statement["Effect"] != effect:
            continue
        condition = []
        for operator, tests in statement.get("Condition", {}).items():
            if operator not in OPERATORS:
                raise ValueError(f"{role}: the condition {operator} is not understood")
            condition += [(operator, key.lower(), tuple(listed(values))) for key, values in tests.items()]
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield Grant(role, statement.get("Sid", ""), action, resource, tuple(condition))


def listed(value):
    return value if isinstance(value, list) else [value]
