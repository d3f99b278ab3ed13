"""Granted against used: for each role, both ways.

What the run cannot use is in `NOT_USED`, each with its reason; a reason that is not needed any more fails the run, too.
"""

from policy import like

# Role, statement, action, resource: a grant's, with wildcards; and why no request of the run needs it.
NOT_USED = [
    ("*", "ByS*Encryption", "kms:*", "*", "S3 and SNS encrypt with the caller's rights; the stand-in encrypts nothing"),
    ("*", "*", "s3:AbortMultipartUpload", "*", "for an upload in parts that fails halfway"),
    ("ProvisioningRole", "ByIot*", "iot:*", "*", "AWS IoT registers a gateway; the stand-in has no fleet provisioning"),
    ("CatalogRole", "ByAthena*", "s3:*", "*", "Athena keeps results; the stand-in's runs no statement"),
    ("OperatorRole", "ByHand*", "*", "*", "a person does it by hand"),
]

# What is due depends on how many commits there were and how many races were lost: used in one run, not in another.
SOMETIMES = [
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/gold/*", "a checkpoint after ten commits"),
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/ledger/*", "compaction of sixty-four files"),
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/versions/*", "compaction of eight files"),
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/checks/*", "a checkpoint after ten commits"),
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/quarantine/*", "a checkpoint after ten commits"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/versions/*", "files of a lost race"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/discard/*", "old files, unless forgetting has removed them"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/checks/*", "files of a lost race, an old log"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/quarantine/*", "files of a lost race"),
    ("MaintainRole", "WriteTables", "s3:PutObject", "*/forgotten/*", "a checkpoint after ten commits"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/forgotten/*", "files of a lost race, an old log"),
    ("MaintainRole", "RemoveWhatIsOver", "s3:DeleteObject", "*/expired/*", "files of a lost race, an old log"),
    ("GoldRole", "RemoveOldStates", "s3:DeleteObject", "*/alerts/*", "states of alerts that are a day old"),
]


def applies(grant):
    """Whether the action is one on such a resource at all: a statement may name actions and resources of several kinds."""
    service, _, action = grant.action.partition(":")
    if service == "glue" and "table/" in grant.resource:
        return "Table" in action
    if action in ("ListBucketVersions", "ListBucket"):
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
    unused = [grant for grant in unused if not any(excused(grant, reason) for reason in NOT_USED + SOMETIMES)]
    wrong += sorted(f"never used: {grant}" for grant in unused)
    wrong += sorted(f"names no single action: {grant}" for grant in granted if "*" in grant.action)
    return wrong


def excused(grant, reason):
    return all(like(*pair) for pair in zip((grant.role, grant.sid, grant.action, grant.resource), reason))


def sorted_asks(denied):
    return sorted(denied, key=lambda found: (found[0], found[1].action, found[1].resource))
