"""CloudFormation's functions: a template's properties as they are once its resources have names.

`known` has for each logical name what Ref gives and what each attribute gives; parameters and pseudo parameters have
Ref alone. What is not known is an error.
"""

import re

REF = ""  # the attribute that Ref gives
NO_VALUE = object()


def resolve(value, known, conditions):
    """`conditions` are the template's, unresolved."""

    def go(value):
        if isinstance(value, list):
            return [found for item in value if (found := go(item)) is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return NO_VALUE if argument == "AWS::NoValue" else known[argument][REF]
            if name in FUNCTIONS:
                return FUNCTIONS[name](argument)
        return {name: found for name, item in value.items() if (found := go(item)) is not NO_VALUE}

    def attribute(argument):
        name, _, what = argument.partition(".") if isinstance(argument, str) else (argument[0], "", argument[1])
        return known[name][what]

    def sub(argument):
        text, own = (argument, {}) if isinstance(argument, str) else argument

        def fill(found):
            name = found[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return str(go(own[name]))
            return str(attribute(name) if "." in name else known[name][REF])

        return re.sub(r"\$\{([^}]+)\}", fill, text)

    def choose(argument):
        return go(argument[1] if holds({"Condition": argument[0]}) else argument[2])

    def holds(condition):
        (name, argument), = condition.items()
        match name:
            case "Condition":
                return holds(conditions[argument])
            case "Fn::Equals":
                return str(go(argument[0])) == str(go(argument[1]))
            case "Fn::Not":
                return not holds(argument[0])
            case "Fn::And":
                return all(map(holds, argument))
            case "Fn::Or":
                return any(map(holds, argument))
        raise ValueError(f"the condition {name} is not understood")

    FUNCTIONS = {
        "Fn::GetAtt": attribute,
        "Fn::Sub": sub,
        "Fn::If": choose,
        "Fn::Join": lambda argument: argument[0].join(map(str, go(argument[1]))),
        "Fn::Select": lambda argument: go(argument[1])[int(argument[0])],
        "Fn::Split": lambda argument: go(argument[1]).split(argument[0]),
        "Condition": lambda argument: holds({"Condition": argument}),
    }
    return go(value)
