//! What OpenTelemetry's protocol says, read with no more than the rules of protobuf.

use std::collections::BTreeMap;

/// Spans of one resource.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) resource: BTreeMap<String, String>,
    pub(super) spans: Vec<Span>,
}

#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty where it has none.
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Export {
    /// An `ExportTraceServiceRequest`.
    pub(super) fn parse(body: &[u8]) -> Vec<Self> {
        messages(body, 1).map(Self::of_resource).collect()
    }

    /// `ResourceSpans`: a resource, and its spans by what they come from.
    fn of_resource(bytes: &[u8]) -> Self {
        let resource = messages(bytes, 1).flat_map(|resource| attributes(resource, 1));
        let spans = messages(bytes, 2).flat_map(|scope| messages(scope, 2));
        Self {
            resource: resource.collect(),
            spans: spans.map(Span::parse).collect(),
        }
    }
}

impl Span {
    fn parse(bytes: &[u8]) -> Self {
        let hex_of = |number| messages(bytes, number).map(hex::encode).collect();
        let name = messages(bytes, 5).next().unwrap();
        Self {
            trace: hex_of(1),
            id: hex_of(2),
            parent: hex_of(4),
            name: String::from_utf8(name.to_vec()).unwrap(),
            kind: numbers(bytes, 6).next().unwrap_or_default(),
            attributes: attributes(bytes, 9).collect(),
        }
    }
}

/// `KeyValue`s, with texts and numbers as text.
fn attributes(bytes: &[u8], number: u64) -> impl Iterator<Item = (String, String)> {
    messages(bytes, number).map(|pair| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let key = messages(pair, 1).next().map(text).unwrap();
        let value = messages(pair, 2).next().unwrap();
        let words = messages(value, 1).next().map(text);
        let number = || numbers(value, 3).next().map(|number| number.to_string());
        (key, words.or_else(number).unwrap_or_default())
    })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// All fields with this number that have bytes.
fn messages(bytes: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(bytes).filter_map(move |field| match field {
        (found, Value::Bytes(bytes)) if found == number => Some(bytes),
        _ => None,
    })
}

fn numbers(bytes: &[u8], number: u64) -> impl Iterator<Item = u64> {
    fields(bytes).filter_map(move |field| match field {
        (found, Value::Number(value)) if found == number => Some(value),
        _ => None,
    })
}

fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Bytes(take(&mut bytes, 8)),
            2 => {
                let length = varint(&mut bytes);
                Value::Bytes(take(&mut bytes, length.try_into().unwrap()))
            }
            5 => Value::Bytes(take(&mut bytes, 4)),
            other => panic!("wire type {other}"),
        };
        Some((key >> 3, value))
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
