//! Secrets Manager: a secret's value, which goes into no log and no error.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::access::Service;
use super::client::{Call, Client};
use super::error::CallError;

/// The value of a secret, by its ARN or name: its text, or its bytes.
pub async fn value(client: &Client, secret: &str) -> Result<Vec<u8>, CallError> {
    let resource = if secret.starts_with("arn:") {
        secret.to_owned()
    } else {
        // AWS ends a secret's ARN with six characters of its own.
        format!("arn:aws:secretsmanager:{}:*:secret:{secret}-??????", client.region())
    };
    let call = Call {
        service: Service::SecretsManager,
        action: "GetSecretValue",
        resource: &resource,
        content_type: "application/x-amz-json-1.1",
        target: Some("secretsmanager"),
        body: json!({"SecretId": secret}).to_string(),
    };
    let answer = client.call_json(&call).await?;
    if let Some(text) = answer["SecretString"].as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes = answer["SecretBinary"].as_str().and_then(|text| STANDARD.decode(text).ok());
    bytes.ok_or_else(|| CallError::Answer {
        action: "secretsmanager:GetSecretValue".to_owned(),
        resource: resource.clone(),
        what: "the secret has no value".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::client::tests::scripted;
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:ingot/key-a1b2c3";

    #[tokio::test]
    async fn a_value_is_text_or_bytes() {
        let answers = [(200, r#"{"SecretString":"words"}"#), (200, r#"{"SecretBinary":"AAEC/w=="}"#)];
        let (client, served) = scripted(&answers).await;
        assert_eq!(value(&client, ARN).await.unwrap(), b"words");
        assert_eq!(value(&client, "ingot/key").await.unwrap(), [0, 1, 2, 255]);
        let requests = served.await.unwrap();
        assert!(requests[0].contains("x-amz-target: secretsmanager.GetSecretValue"), "{}", requests[0]);
        assert!(requests[0].contains("/eu-west-1/secretsmanager/aws4_request"), "{}", requests[0]);
        assert!(requests[1].ends_with(r#"{"SecretId":"ingot/key"}"#), "{}", requests[1]);
    }

    #[tokio::test]
    async fn no_answer_of_the_service_shows_a_secret() {
        let denied = r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#;
        let strange = r#"{"SecretString": "hidden words", "#;
        let empty = r#"{"Name":"ingot/key","SecretBinary":"hidden words"}"#;
        let (client, _served) = scripted(&[(400, denied), (200, strange), (200, empty)]).await;
        let error = value(&client, ARN).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("needs secretsmanager:GetSecretValue on {ARN}")), "{error}");
        for _ in 0..2 {
            let error = value(&client, "ingot/key").await.unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
