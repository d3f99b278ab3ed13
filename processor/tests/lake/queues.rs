//! Queues and topics of the stand-in.

use serde_json::{Value, json};

use crate::moto::Moto;

impl Moto {
    /// A queue: its URL.
    pub fn queue(&self, name: &str) -> String {
        let made = self.call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": name}));
        made["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// The bodies of the messages in a queue.
    pub fn received(&self, queue: &str) -> Vec<String> {
        let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0});
        let mut answer = self.call("sqs", "AmazonSQS.ReceiveMessage", &ask);
        let Value::Array(messages) = answer["Messages"].take() else { return Vec::new() };
        messages.iter().map(|message| message["Body"].as_str().unwrap().to_owned()).collect()
    }

    /// A topic whose notices go to the queue of this name: its ARN.
    pub fn topic(&self, name: &str, queue: &str) -> String {
        let version = "Version=2010-03-31";
        let made = self.form("sns", &format!("Action=CreateTopic&Name={name}&{version}"));
        let arn = made.split("<TopicArn>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let endpoint = format!("arn:aws:sqs:eu-west-1:123456789012:{queue}");
        let told = format!("Action=Subscribe&TopicArn={arn}&Protocol=sqs&Endpoint={endpoint}&{version}");
        self.form("sns", &told);
        arn
    }
}

/// What a topic told a queue.
pub fn told(body: &str) -> Value {
    let notice: Value = serde_json::from_str(body).unwrap();
    serde_json::from_str(notice["Message"].as_str().unwrap()).unwrap()
}
