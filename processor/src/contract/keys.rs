//! The keys that a contract may have, and what stands under each: the Open Data Contract Standard v3.1
//! where Ingot reads it, and Ingot's own custom properties.
//!
//! A key of the standard that Ingot does not read is let pass with all that is under it. A test holds
//! these tables against the published schema (tests/python/test_contracts.py), which is 86 KB and wants
//! a validator of its own: it stays out of the program.

/// What may stand under a key.
#[derive(Clone, Copy)]
pub(super) enum Want {
    /// Anything: the standard knows the key, Ingot does not read it.
    Any,
    Text,
    Bool,
    Number,
    One(&'static Keys),
    List(&'static Keys),
    /// A list of custom properties, of which Ingot reads some.
    Custom(&'static [Known]),
    /// The standard knows it, and it would change verdicts, but Ingot does not run it.
    Instead(&'static str),
}

pub(super) type Known = (&'static str, Want);

/// The keys of one kind of object.
pub(super) struct Keys {
    pub what: &'static str,
    pub required: &'static [&'static str],
    pub known: &'static [Known],
}

use Want::{Any, Bool, Custom, Instead, List, Number, One, Text};

pub(super) static CONTRACT: Keys = Keys {
    what: "a contract",
    required: &["apiVersion", "kind", "id", "version", "status", "schema"],
    known: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("id", Text),
        ("name", Text),
        ("version", Text),
        ("status", Text),
        ("tenant", Text),
        ("tags", Any),
        ("servers", Any),
        ("dataProduct", Text),
        ("description", One(&DESCRIPTION)),
        ("domain", Text),
        ("schema", List(&TABLE)),
        ("support", Any),
        ("price", Any),
        ("team", Any),
        ("roles", Any),
        ("slaDefaultElement", Text),
        ("slaProperties", List(&SERVICE_LEVEL)),
        ("authoritativeDefinitions", Any),
        (
            "customProperties",
            Custom(&[
                ("partitionBy", Text),
                ("latestBy", Any),
                ("references", List(&REFERENCE)),
                ("gold", List(&GOLD)),
                ("examples", One(&EXAMPLES)),
                ("alerts", List(&ALERT)),
                ("retention", One(&RETENTION)),
            ]),
        ),
        ("contractCreatedTs", Text),
    ],
};

static SERVICE_LEVEL: Keys = Keys {
    what: "a service level",
    required: &["property", "value"],
    known: &[
        ("id", Text),
        ("property", Text),
        ("value", Any),
        ("valueExt", Any),
        ("unit", Text),
        ("element", Text),
        ("driver", Text),
        ("description", Text),
        ("scheduler", Text),
        ("schedule", Text),
    ],
};

static DESCRIPTION: Keys = Keys {
    what: "description",
    required: &[],
    known: &[
        ("purpose", Text),
        ("usage", Text),
        ("limitations", Text),
        ("authoritativeDefinitions", Any),
        ("customProperties", Any),
    ],
};

static TABLE: Keys = Keys {
    what: "an object of schema",
    required: &["name", "properties"],
    known: &[
        ("id", Text),
        ("name", Text),
        ("physicalType", Text),
        ("description", Text),
        ("businessName", Text),
        ("authoritativeDefinitions", Any),
        ("tags", Any),
        ("customProperties", Any),
        ("logicalType", Text),
        ("physicalName", Text),
        ("dataGranularityDescription", Text),
        ("properties", List(&PROPERTY)),
        ("relationships", Any),
        ("quality", List(&QUALITY)),
    ],
};

static PROPERTY: Keys = Keys {
    what: "a column",
    required: &["name", "logicalType"],
    known: &[
        ("id", Text),
        ("name", Text),
        ("physicalType", Text),
        ("description", Text),
        ("businessName", Text),
        ("authoritativeDefinitions", Any),
        ("tags", Any),
        ("customProperties", Custom(&[("redact", Text), ("epochUnit", Text), ("unit", Text)])),
        ("primaryKey", Bool),
        ("primaryKeyPosition", Number),
        ("logicalType", Text),
        ("logicalTypeOptions", One(&TYPE_OPTIONS)),
        ("physicalName", Text),
        ("required", Bool),
        ("unique", Bool),
        ("partitioned", Bool),
        ("partitionKeyPosition", Number),
        ("classification", Text),
        ("encryptedName", Text),
        ("transformSourceObjects", Any),
        ("transformLogic", Text),
        ("transformDescription", Text),
        ("examples", Any),
        ("criticalDataElement", Bool),
        ("relationships", Any),
        ("quality", List(&QUALITY)),
        ("properties", Instead("a column holds one value; give each nested field a column of its own")),
        ("items", Instead("a column holds one value; lists are not read")),
    ],
};

const AS_CHECK: &str = "write it as a check under quality, so that its rows have a rule to be discarded by";

static TYPE_OPTIONS: Keys = Keys {
    what: "logicalTypeOptions",
    required: &[],
    known: &[
        ("pattern", Text),
        ("minLength", Instead(AS_CHECK)),
        ("maxLength", Instead(AS_CHECK)),
        ("minimum", Instead(AS_CHECK)),
        ("maximum", Instead(AS_CHECK)),
        ("exclusiveMinimum", Instead(AS_CHECK)),
        ("exclusiveMaximum", Instead(AS_CHECK)),
        ("multipleOf", Instead(AS_CHECK)),
        ("format", Any),
        ("timezone", Any),
        ("defaultTimezone", Any),
    ],
};

static QUALITY: Keys = Keys {
    what: "a quality rule",
    required: &[],
    known: &[
        ("id", Text),
        ("authoritativeDefinitions", Any),
        ("businessImpact", Text),
        ("customProperties", Custom(&[("window", Text)])),
        ("description", Text),
        ("dimension", Text),
        ("method", Text),
        ("name", Text),
        ("schedule", Text),
        ("scheduler", Text),
        ("severity", Text),
        ("tags", Any),
        ("type", Text),
        ("unit", Text),
        ("metric", Text),
        ("rule", Any),
        ("arguments", Any),
        ("query", Text),
        ("engine", Text),
        ("implementation", Any),
        ("mustBe", Any),
        ("mustNotBe", Any),
        ("mustBeGreaterThan", Any),
        ("mustBeGreaterOrEqualTo", Any),
        ("mustBeLessThan", Any),
        ("mustBeLessOrEqualTo", Any),
        ("mustBeBetween", Any),
        ("mustNotBeBetween", Any),
    ],
};

pub(super) static CUSTOM: Keys = Keys {
    what: "a custom property",
    required: &["property", "value"],
    known: &[("id", Text), ("property", Text), ("value", Any), ("description", Text)],
};

static REFERENCE: Keys = Keys {
    what: "a reference",
    required: &["name", "on"],
    known: &[("name", Text), ("on", Text), ("rows", Any), ("file", Text)],
};

static GOLD: Keys = Keys {
    what: "a gold query",
    required: &["name", "window", "sql"],
    known: &[("name", Text), ("description", Text), ("window", Text), ("sql", Text)],
};

static ALERT: Keys = Keys {
    what: "an alert",
    required: &["name", "watch"],
    known: &[
        ("name", Text),
        ("watch", Text),
        ("openAbovePercent", Number),
        ("resolveBelowPercent", Number),
        ("openAboveMinutes", Number),
        ("resolveBelowMinutes", Number),
        ("openAboveCount", Number),
        ("resolveBelowCount", Number),
        ("windowMinutes", Number),
        ("rowsMin", Number),
    ],
};

static RETENTION: Keys = Keys {
    what: "retention",
    required: &[],
    known: &[("bronzeDays", Number), ("silverDays", Number), ("discardDays", Number), ("goldDays", Number)],
};

static EXAMPLES: Keys = Keys {
    what: "examples",
    required: &["now", "row", "cases"],
    known: &[("now", Text), ("row", Any), ("cases", List(&CASE)), ("equivalent", Any)],
};

static CASE: Keys = Keys {
    what: "an example",
    required: &["expect"],
    known: &[("name", Text), ("set", Any), ("line", Text), ("expect", Text), ("rules", Any)],
};
