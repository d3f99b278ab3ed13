//! SNS: a message to all who subscribe to a topic. At least once; the message's id tells it is the same.

use url::form_urlencoded::Serializer;

use super::access::Service;
use super::client::{Call, Client};
use super::error::{CallError, SetupError};

/// What SNS takes as a subject.
const SUBJECT_CHARS_MAX: usize = 99;

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    client: Client,
    arn: String,
}

impl Topic {
    /// The topic of the ARN.
    ///
    /// # Errors
    /// It is no topic's ARN, or the topic is in another region.
    pub fn new(client: Client, arn: &str) -> Result<Self, SetupError> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", _, "sns", region, account, name] = parts[..] else {
            return Err(SetupError::Topic(arn.to_owned()));
        };
        if account.is_empty() || name.is_empty() {
            return Err(SetupError::Topic(arn.to_owned()));
        }
        if region != client.region() {
            return Err(SetupError::TopicRegion { arn: arn.to_owned(), region: client.region().to_owned() });
        }
        Ok(Self { client, arn: arn.to_owned() })
    }

    /// Publishes a message. `attributes` are what subscriptions can filter by: name and text.
    pub async fn publish(
        &self,
        subject: &str,
        message: &str,
        attributes: &[(&str, &str)],
    ) -> Result<(), CallError> {
        let call = Call {
            service: Service::Sns,
            action: "Publish",
            resource: &self.arn,
            content_type: "application/x-www-form-urlencoded; charset=utf-8",
            target: None,
            body: form(&self.arn, subject, message, attributes),
        };
        self.client.call(&call).await.map(drop)
    }
}

/// The call in the query protocol.
fn form(arn: &str, subject: &str, message: &str, attributes: &[(&str, &str)]) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", "Publish").append_pair("Version", "2010-03-31");
    form.append_pair("TopicArn", arn);
    form.append_pair("Subject", &plain(subject)).append_pair("Message", message);
    for (number, (name, value)) in (1..).zip(attributes.iter().filter(|(_, value)| !value.is_empty())) {
        let entry = format!("MessageAttributes.entry.{number}");
        form.append_pair(&format!("{entry}.Name"), name);
        form.append_pair(&format!("{entry}.Value.DataType"), "String");
        form.append_pair(&format!("{entry}.Value.StringValue"), value);
    }
    form.finish()
}

/// A subject is ASCII without control characters, and short.
fn plain(subject: &str) -> String {
    let fits = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    subject.chars().take(SUBJECT_CHARS_MAX).map(fits).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::client::tests::scripted;
    use super::*;

    const ARN: &str = "arn:aws:sns:eu-west-1:111122223333:alerts";

    #[tokio::test]
    async fn a_message_goes_to_its_topic_with_what_subscriptions_filter_by() {
        let (client, served) = scripted(&[(200, "<PublishResponse/>")]).await;
        let topic = Topic::new(client, ARN).unwrap();
        topic.publish("alert open\n", "{\"a\":\"b c\"}", &[("rule", ""), ("kind", "open")]).await.unwrap();
        let request = served.await.unwrap().remove(0);
        assert!(
            request.ends_with(
                "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A111122223333%3Aalerts\
                 &Subject=alert+open%3F&Message=%7B%22a%22%3A%22b+c%22%7D&MessageAttributes.entry.1.Name=kind\
                 &MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=open"
            ),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_denial_in_xml_names_the_right() {
        let denied = "<ErrorResponse><Error><Code>AuthorizationError</Code><Message>no</Message></Error></ErrorResponse>";
        let (client, _served) = scripted(&[(403, denied)]).await;
        let error = Topic::new(client, ARN).unwrap().publish("s", "m", &[]).await.unwrap_err();
        assert!(error.to_string().ends_with(&format!("needs sns:Publish on {ARN}")), "{error}");
    }

    #[tokio::test]
    async fn a_topic_elsewhere_is_refused() {
        let (client, _) = scripted(&[]).await;
        let other = "arn:aws:sns:us-east-1:111122223333:alerts";
        assert!(matches!(Topic::new(client.clone(), other), Err(SetupError::TopicRegion { .. })));
        assert!(matches!(Topic::new(client, "alerts"), Err(SetupError::Topic(_))));
    }
}
