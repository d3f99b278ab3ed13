//! What a call can end in, in words that tell the operator what to do.

use serde_json::Value;

/// The environment does not say how to reach AWS; nothing was called.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No region.
    #[error("no AWS region: set AWS_REGION, e.g. eu-west-1")]
    Region,
    /// An endpoint is no URL.
    #[error("{variable} is not an http:// or https:// URL")]
    Endpoint {
        /// The environment variable.
        variable: &'static str,
    },
    /// An endpoint would take requests unencrypted over the network.
    #[error(
        "{variable} is http:// to another machine, where anyone on the way can read it; use https://, or allow it with AWS_ALLOW_HTTP=true"
    )]
    Plain {
        /// The environment variable.
        variable: &'static str,
    },
    /// The settings of credentials.
    #[error("AWS credentials: {0}")]
    Credentials(object_store::Error),
    /// The settings of the bucket.
    #[error("the bucket's settings in AWS_*: {0}")]
    Bucket(object_store::Error),
    /// The HTTP client.
    #[error("the client of AWS: {0}")]
    Client(reqwest::Error),
    /// A queue's URL.
    #[error("{0} is not the URL of a queue, like https://sqs.eu-west-1.amazonaws.com/111122223333/bronze")]
    Queue(String),
    /// A topic's ARN.
    #[error("{0} is not the ARN of a topic, like arn:aws:sns:eu-west-1:111122223333:alerts")]
    Topic(String),
    /// A topic of another region.
    #[error("the topic {arn} is not in {region}, the region of AWS_REGION")]
    TopicRegion {
        /// The topic.
        arn: String,
        /// The region of the calls.
        region: String,
    },
}

/// The lake's bucket is not where it was looked for.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Nowhere.
    #[error("there is no bucket {bucket}; create it, or correct --lake")]
    Missing {
        /// The bucket.
        bucket: String,
    },
    /// In another region.
    #[error("the bucket {bucket} is not in {region}; set AWS_REGION to the bucket's region")]
    Elsewhere {
        /// The bucket.
        bucket: String,
        /// The region of the calls.
        region: String,
    },
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The caller lacks a right.
    #[error(
        "{action} on {resource} is denied ({code}: {message}); the role of these credentials needs {action} on {resource}"
    )]
    Denied {
        /// The IAM action, e.g. `glue:CreateTable`.
        action: String,
        /// The resource, as an ARN.
        resource: String,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
    },
    /// The service says no.
    #[error("{action} on {resource}: status {status}, {code}: {message}")]
    Refused {
        /// The IAM action.
        action: String,
        /// The resource, as an ARN.
        resource: String,
        /// The HTTP status.
        status: u16,
        /// The service's code.
        code: String,
        /// The service's words.
        message: String,
    },
    /// Nobody answers.
    #[error("{action} on {resource}: no answer after {tries} tries: {source}")]
    NoAnswer {
        /// The IAM action.
        action: String,
        /// The resource, as an ARN.
        resource: String,
        /// How often it was asked.
        tries: u32,
        /// The last try's failure.
        source: reqwest::Error,
    },
    /// The answer is not one.
    #[error("{action} on {resource}: the answer is not what the service should say: {what}")]
    Answer {
        /// The IAM action.
        action: String,
        /// The resource, as an ARN.
        resource: String,
        /// What is wrong with it.
        what: String,
    },
    /// No credentials.
    #[error(
        "{action} on {resource}: there are no usable AWS credentials ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the function, container or instance a role"
    )]
    Credentials {
        /// The IAM action.
        action: String,
        /// The resource, as an ARN.
        resource: String,
        /// What was tried.
        why: String,
    },
}

impl CallError {
    /// What a refusal is called: sorted into a missing right and everything else.
    pub(super) fn refusal(action: &str, resource: &str, status: u16, code: String, message: String) -> Self {
        let (action, resource) = (action.to_owned(), resource.to_owned());
        let denied = matches!(
            code.as_str(),
            "AccessDenied" | "AccessDeniedException" | "AuthorizationError" | "AuthorizationErrorException"
        );
        if denied {
            Self::Denied { action, resource, code, message }
        } else {
            Self::Refused { action, resource, status, code, message }
        }
    }

    pub(super) fn no_credentials(action: &str, resource: &str, why: String) -> Self {
        Self::Credentials { action: action.to_owned(), resource: resource.to_owned(), why }
    }

    /// Whether the service refused with this code.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Denied { code, .. } | Self::Refused { code, .. } if code == wanted)
    }
}

/// The code and the words of a refusal: JSON, or SNS's XML.
pub(super) fn code_and_message(body: &str) -> (String, String) {
    if let Ok(json) = serde_json::from_str::<Value>(body) {
        let text = |names: [&str; 2]| names.iter().find_map(|name| json[name].as_str()).unwrap_or_default();
        // `com.amazonaws.sqs#QueueDoesNotExist`
        let code = text(["__type", "code"]).rsplit('#').next().unwrap_or_default();
        return (code.to_owned(), text(["message", "Message"]).to_owned());
    }
    let between = |start: &str, end: &str| {
        let rest = body.split_once(start).map(|(_, rest)| rest)?;
        rest.split_once(end).map(|(text, _)| text.trim().to_owned())
    };
    let code = between("<Code>", "</Code>").unwrap_or_else(|| "no code".to_owned());
    (code, between("<Message>", "</Message>").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_both_protocols() {
        let json = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no such queue"}"#;
        assert_eq!(code_and_message(json), ("QueueDoesNotExist".to_owned(), "no such queue".to_owned()));
        let xml =
            "<ErrorResponse><Error><Code>NotFound</Code><Message>no topic</Message></Error></ErrorResponse>";
        assert_eq!(code_and_message(xml), ("NotFound".to_owned(), "no topic".to_owned()));
        assert_eq!(code_and_message("<html>"), ("no code".to_owned(), String::new()));
    }

    #[test]
    fn a_denial_names_the_action_and_the_resource_that_are_missing() {
        let resource = "arn:aws:glue:eu-west-1:*:table/lake/orders";
        let error = CallError::refusal(
            "glue:CreateTable",
            resource,
            400,
            "AccessDeniedException".to_owned(),
            "not authorized".to_owned(),
        );
        assert!(error.to_string().ends_with(&format!("needs glue:CreateTable on {resource}")), "{error}");
    }
}
