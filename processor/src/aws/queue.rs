//! SQS: a message into a queue. At least once; whoever takes it bears it twice.

use serde_json::json;
use url::Url;

use super::access::Service;
use super::client::{Call, Client};
use super::error::{CallError, SetupError};

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
    arn: String,
}

impl Queue {
    /// The queue at the URL.
    ///
    /// # Errors
    /// It is no queue's URL.
    pub fn new(client: Client, url: &str) -> Result<Self, SetupError> {
        let wrong = || SetupError::Queue(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let path: Vec<&str> = parsed.path_segments().map(Iterator::collect).unwrap_or_default();
        let [.., account, name] = path[..] else { return Err(wrong()) };
        if account.is_empty() || name.is_empty() {
            return Err(wrong());
        }
        let arn = format!("arn:aws:sqs:{}:{account}:{name}", client.region());
        Ok(Self { client, url: url.to_owned(), arn })
    }

    /// The queue's region.
    pub fn region(&self) -> &str {
        self.client.region()
    }

    /// Sends a message.
    pub async fn send(&self, message: &str) -> Result<(), CallError> {
        let body = json!({"QueueUrl": self.url, "MessageBody": message}).to_string();
        let call = Call {
            service: Service::Sqs,
            action: "SendMessage",
            resource: &self.arn,
            content_type: "application/x-amz-json-1.0",
            target: Some("AmazonSQS"),
            body,
        };
        self.client.call(&call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::client::tests::scripted;
    use super::*;

    #[tokio::test]
    async fn a_message_goes_to_its_queue_and_a_missing_queue_is_named() {
        let missing = "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":\"no queue\"}";
        let (client, served) = scripted(&[(200, "{}"), (400, missing)]).await;
        let queue = Queue::new(client, "http://127.0.0.1:1/111122223333/bronze").unwrap();
        queue.send("{\"Records\":[]}").await.unwrap();
        let error = queue.send("x").await.unwrap_err();
        assert!(error.is("QueueDoesNotExist"));
        assert!(error.to_string().contains("arn:aws:sqs:eu-west-1:111122223333:bronze"), "{error}");
        let request = served.await.unwrap().remove(0);
        assert!(request.contains("x-amz-target: AmazonSQS.SendMessage"));
        assert!(request.ends_with(r#""QueueUrl":"http://127.0.0.1:1/111122223333/bronze"}"#), "{request}");
    }

    #[tokio::test]
    async fn what_is_no_queue_is_refused() {
        let (client, _) = scripted(&[]).await;
        for url in ["bronze", "https://sqs.eu-west-1.amazonaws.com/", "arn:aws:sqs:eu-west-1:1:bronze"] {
            assert!(matches!(Queue::new(client.clone(), url), Err(SetupError::Queue(_))), "{url}");
        }
    }
}
