"""Granted against used: for each role, both ways.

What the run cannot use is here, each with its reason; a reason that is not needed any more fails the run, too.
"""

from policy import like

# Role, action, resource: a grant's, with wildcards; and why no request of the run needs it.
NOT_USED = [
    ("*", "kms:*", "*", "a service of AWS encrypts with the caller's rights; the stand-in encrypts nothing"),
    ("*", "s3:AbortMultipartUpload", "*", "for an upload in parts that fails halfway"),
    ("ProvisioningRole", "iot:*", "*", "fleet provisioning acts in AWS IoT, which the stand-in has not"),
    ("CatalogRole", "s3:*", "*athena-results/*", "Athena writes results; the stand-in runs no statement"),
    ("CatalogRole", "s3:GetBucketLocation", "*", "Athena asks; the stand-in runs no statement"),
]


def applies(grant):
    """Whether the action is one on such a resource at all: a statement may name actions and resources of several kinds."""
    service, _, action = grant.action.partition(":")
    if service == "glue" and "table/" in grant.resource:
        return "Table" in action
    if service == "glue" and "database/" in grant.resource:
        return action != "GetDatabases"
    if action == "ListBucketVersions":
        return "/" not in grant.resource
    if action == "DeleteObjectVersion":
        return "/" in grant.resource
    return True


def compare(recorder):
    """What is wrong, in words; nothing if each role did what it may, and may what it did."""
    wrong = [f"{role} may not {ask.action} on {ask.resource}" for role, ask in sorted_asks(recorder.denied)]
    wrong += [f"the recorder has no name for {request}" for request in sorted(recorder.unknown)]
    granted = {grant for grants in recorder.grants.values() for grant in grants if applies(grant)}
    unused = granted - recorder.used
    for reason in NOT_USED:
        if not any(excused(grant, reason) for grant in unused):
            wrong.append(f"the reason is not needed any more: {reason}")
    unused = [grant for grant in unused if not any(excused(grant, reason) for reason in NOT_USED)]
    wrong += sorted(f"never used: {grant}" for grant in unused)
    wrong += sorted(f"names no single action: {grant}" for grant in granted if "*" in grant.action)
    return wrong


def excused(grant, reason):
    return all(like(*pair) for pair in zip((grant.role, grant.action, grant.resource), reason))


def sorted_asks(denied):
    return sorted(denied, key=lambda found: (found[0], found[1].action, found[1].resource))
