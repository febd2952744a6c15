//! [`PublishBody`]: the fields of the document that a `PUT` brings.

use indexmap::IndexMap;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{error::BodyError, scanner::ScannedBody};

/// A JSON object that keeps the order of its keys and the bytes of its values; the last of two
/// equal keys wins, as in JavaScript.
pub type RawObject = IndexMap<String, Box<RawValue>>;

/// The document of a `PUT` to a package. A field that is `null` counts as missing.
#[derive(Debug, Default)]
pub struct PublishBody {
    /// `_id`.
    pub id: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `_rev`.
    pub revision: Option<String>,
    /// `versions`.
    pub versions: Option<RawObject>,
    /// `dist-tags`, not checked yet.
    pub dist_tags: Option<IndexMap<String, String>>,
    /// `users`: who has starred the package.
    pub users: Option<IndexMap<String, bool>>,
    /// `maintainers`.
    pub maintainers: Option<Vec<Maintainer>>,
    /// `access`.
    pub access: Option<Access>,
    /// `readme`.
    pub readme: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `_attachments`, those without data too.
    pub attachments: Vec<Attachment>,
    /// All other fields.
    pub rest: RawObject,
}

/// A person in `maintainers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// The user's name.
    pub name: String,
    /// The address, if one is given.
    pub email: Option<String>,
}

/// `access` of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everybody may read.
    Public,
    /// Only those who are allowed to may read.
    Restricted,
}

/// One entry of `_attachments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its key; never a path.
    pub key: String,
    /// `content_type`.
    pub content_type: Option<String>,
    /// `length`, as the client says.
    pub declared_length: Option<u64>,
    /// Length of the data that came; `None` for a stub without `data`.
    pub received_length: Option<u64>,
}

impl PublishBody {
    /// Reads what the scanner collected.
    pub fn parse(scanned: &ScannedBody) -> Result<Self, BodyError> {
        let mut fields: RawObject =
            serde_json::from_slice(&scanned.metadata).map_err(BodyError::Json)?;
        let mut body = Self {
            id: text(&mut fields, "_id")?,
            name: text(&mut fields, "name")?,
            revision: text(&mut fields, "_rev")?,
            versions: field(&mut fields, "versions", "an object")?,
            dist_tags: field(&mut fields, "dist-tags", "an object of strings")?,
            users: users(&mut fields)?,
            maintainers: maintainers(&mut fields)?,
            access: field(&mut fields, "access", "`public` or `restricted`")?,
            // Old clients send whatever package.json has here; it is not worth a refusal.
            readme: text(&mut fields, "readme").unwrap_or_default(),
            description: text(&mut fields, "description").unwrap_or_default(),
            attachments: Vec::new(),
            rest: RawObject::new(),
        };
        let attachments: Option<RawObject> = field(&mut fields, "_attachments", "an object")?;
        for (key, raw) in attachments.unwrap_or_default() {
            body.attachments.push(attachment(key, &raw, scanned)?);
        }
        body.rest = fields;
        Ok(body)
    }
}

/// Takes a field out; `shift_remove` keeps the order of the others.
fn field<T: DeserializeOwned>(
    fields: &mut RawObject,
    name: &'static str,
    expected: &'static str,
) -> Result<Option<T>, BodyError> {
    let Some(raw) = fields.shift_remove(name) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map_err(|_| BodyError::Field {
        field: name,
        expected,
    })
}

fn text(fields: &mut RawObject, name: &'static str) -> Result<Option<String>, BodyError> {
    field(fields, name, "a string")
}

/// Values other than `true` mean no star.
fn users(fields: &mut RawObject) -> Result<Option<IndexMap<String, bool>>, BodyError> {
    let users: Option<RawObject> = field(fields, "users", "an object")?;
    Ok(users.map(|users| {
        users
            .into_iter()
            .map(|(name, value)| (name, value.get() == "true"))
            .collect()
    }))
}

fn maintainers(fields: &mut RawObject) -> Result<Option<Vec<Maintainer>>, BodyError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Person {
        Text(String),
        Object { name: String, email: Option<String> },
    }
    const EXPECTED: &str = "a list of `{name, email}`";
    let people: Option<Vec<Person>> = field(fields, "maintainers", EXPECTED)?;
    let Some(people) = people else {
        return Ok(None);
    };
    let mut maintainers = Vec::with_capacity(people.len());
    for person in people {
        let maintainer = match person {
            Person::Object { name, email } => Maintainer { name, email },
            Person::Text(text) => from_text(&text),
        };
        if maintainer.name.is_empty() {
            return Err(BodyError::Field {
                field: "maintainers",
                expected: EXPECTED,
            });
        }
        maintainers.push(maintainer);
    }
    Ok(Some(maintainers))
}

/// Reads `name <email> (url)`.
fn from_text(text: &str) -> Maintainer {
    let (name, rest) = text.split_once('<').unwrap_or((text, ""));
    let name = name.split_once('(').map_or(name, |(name, _)| name);
    Maintainer {
        name: name.trim().to_owned(),
        email: rest
            .split_once('>')
            .map(|(email, _)| email.trim().to_owned()),
    }
}

fn attachment(key: String, raw: &RawValue, scanned: &ScannedBody) -> Result<Attachment, BodyError> {
    let mut fields: RawObject = serde_json::from_str(raw.get()).map_err(|_| BodyError::Field {
        field: "_attachments",
        expected: "an object of objects",
    })?;
    let received = scanned
        .attachments
        .iter()
        .find(|attachment| attachment.name == key);
    Ok(Attachment {
        received_length: received.map(|attachment| attachment.length),
        content_type: text(&mut fields, "content_type")?,
        declared_length: field(&mut fields, "length", "a number")?,
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(metadata: &str) -> Result<PublishBody, BodyError> {
        PublishBody::parse(&ScannedBody {
            metadata: metadata.as_bytes().to_vec(),
            attachments: Vec::new(),
        })
    }

    #[track_caller]
    fn check_error(metadata: &str, expected: &str) {
        let error = parse(metadata).unwrap_err();
        assert_eq!(error.to_string(), expected, "{metadata}");
    }

    #[test]
    fn values_keep_their_bytes_and_order() {
        let body = parse(
            r#"{"b":1.50,"versions":{"2.0.0":{ "a" : 1e3 },"1.0.0":{}},"a":"\u0041","__proto__":{}}"#,
        )
        .unwrap();
        let versions = body.versions.unwrap();
        assert_eq!(versions["2.0.0"].get(), r#"{ "a" : 1e3 }"#);
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["2.0.0", "1.0.0"]);
        assert_eq!(
            body.rest.keys().collect::<Vec<_>>(),
            ["b", "a", "__proto__"]
        );
        assert_eq!(body.rest["a"].get(), r#""\u0041""#);
    }

    #[test]
    fn null_is_missing_and_the_last_of_two_keys_wins() {
        let body = parse(r#"{"access":null,"name":"a","name":"b","users":null}"#).unwrap();
        assert_eq!(body.access, None);
        assert_eq!(body.name.as_deref(), Some("b"));
        assert!(body.users.is_none());
    }

    #[test]
    fn people_come_in_two_spellings() {
        let body = parse(
            r#"{"maintainers":["a <a@b.c> (u)",{"name":"b","url":1}],"users":{"a":true,"__proto__":false,"c":"x"}}"#,
        )
        .unwrap();
        let maintainers = body.maintainers.unwrap();
        assert_eq!(maintainers[0].name, "a");
        assert_eq!(maintainers[0].email.as_deref(), Some("a@b.c"));
        assert_eq!(maintainers[1].email, None);
        let stars: Vec<_> = body.users.unwrap().into_iter().collect();
        assert_eq!(
            stars,
            [
                ("a".to_owned(), true),
                ("__proto__".to_owned(), false),
                ("c".to_owned(), false)
            ]
        );
    }

    #[test]
    fn wrong_types_are_named() {
        check_error(r#"{"name":1}"#, "`name` in the body must be a string");
        check_error(
            r#"{"versions":[]}"#,
            "`versions` in the body must be an object",
        );
        check_error(
            r#"{"dist-tags":{"latest":1}}"#,
            "`dist-tags` in the body must be an object of strings",
        );
        check_error(
            r#"{"_attachments":[]}"#,
            "`_attachments` in the body must be an object",
        );
        check_error(
            r#"{"_attachments":{"a":1}}"#,
            "`_attachments` in the body must be an object of objects",
        );
        check_error(
            r#"{"access":"secret"}"#,
            "`access` in the body must be `public` or `restricted`",
        );
        check_error(
            r#"{"maintainers":[{"name":""}]}"#,
            "`maintainers` in the body must be a list of `{name, email}`",
        );
        check_error("{", "the body is not valid JSON (line 1, column 1)");
    }
}
