//! The policy of a gateway: connect as itself, publish under its own name, hear of its own contract.
//!
//! One policy serves the fleet: AWS IoT puts the thing's name in, which it takes from the certificate and
//! the client id. (Source: AWS IoT Core, "Thing policy variables".)

use serde_json::{Value, json};

/// Put in by AWS at each connection.
const NAME: &str = "${iot:Connection.Thing.ThingName}";

/// The policy's document. `arns` begins every resource, e.g. `arn:aws:iot:eu-west-1:123456789012`;
/// `role_alias` adds the right to take credentials for the direct path to S3.
pub fn document(arns: &str, role_alias: Option<&str>) -> Value {
    let allow = |actions: Value, resources: Value| json!({ "Effect": "Allow", "Action": actions, "Resource": resources });
    let own = |topic: &str| format!("{arns}:topic/{topic}/{NAME}");
    let status = own("ingot/status");
    let mut statements = vec![
        allow(json!("iot:Connect"), json!(format!("{arns}:client/{NAME}"))),
        allow(
            json!("iot:Publish"),
            json!([
                format!("{}/*", own("ingot/bronze")),
                format!("{}/*", own("$aws/rules/ingot_bronze/ingot/bronze")),
                status,
            ]),
        ),
        allow(json!("iot:RetainPublish"), json!(status)),
        allow(json!("iot:Subscribe"), json!(format!("{arns}:topicfilter/ingot/contract/{NAME}"))),
        allow(json!("iot:Receive"), json!(own("ingot/contract"))),
    ];
    if let Some(alias) = role_alias {
        statements
            .push(allow(json!("iot:AssumeRoleWithCertificate"), json!(format!("{arns}:rolealias/{alias}"))));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_ends_in_the_gateways_own_name() {
        let document = document("arn:aws:iot:eu-west-1:1", Some("ingot"));
        let text = document.to_string();
        for resource in [
            "arn:aws:iot:eu-west-1:1:client/${iot:Connection.Thing.ThingName}",
            "arn:aws:iot:eu-west-1:1:topic/ingot/bronze/${iot:Connection.Thing.ThingName}/*",
            "arn:aws:iot:eu-west-1:1:topic/$aws/rules/ingot_bronze/ingot/bronze/${iot:Connection.Thing.ThingName}/*",
            "arn:aws:iot:eu-west-1:1:topicfilter/ingot/contract/${iot:Connection.Thing.ThingName}",
            "arn:aws:iot:eu-west-1:1:rolealias/ingot",
        ] {
            assert!(text.contains(&format!("{resource:?}")), "{resource}\n{text}");
        }
        assert_eq!(text.matches("arn:").count(), 8);
        assert_eq!(text.matches(NAME).count() + 1, 8, "all but the role alias are bound to the name");
        // AWS takes policies of up to 2,048 characters without spaces.
        assert!(text.len() < 2_048, "{}", text.len());
    }
}
