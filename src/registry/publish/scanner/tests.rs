//! Tests of the scanner: examples, hostile documents, and properties against `serde_json`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::registry::publish::body::{PublishBody, RawObject};

/// Keeps attachments, and notes whether the calls came in order.
#[derive(Default)]
struct Kept {
    attachments: Vec<(String, Vec<u8>)>,
    is_open: bool,
}

impl AttachmentSink for Kept {
    fn begin(&mut self, name: &str) -> io::Result<()> {
        assert!(!self.is_open, "an attachment begins inside another");
        self.is_open = true;
        self.attachments.push((name.to_owned(), Vec::new()));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(self.is_open, "bytes outside of an attachment");
        let (_, content) = self.attachments.last_mut().unwrap();
        content.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        assert!(self.is_open, "an end without a begin");
        self.is_open = false;
        Ok(())
    }
}

type Scanned = (ScannedBody, Vec<(String, Vec<u8>)>);

fn scan_in(chunks: &[&[u8]], limits: ScanLimits) -> Result<Scanned, BodyError> {
    let (mut scanner, mut kept) = (Scanner::new(limits), Kept::default());
    for chunk in chunks {
        scanner.feed(chunk, &mut kept)?;
    }
    let body = scanner.finish()?;
    assert!(!kept.is_open, "an attachment without an end");
    Ok((body, kept.attachments))
}

fn scan(document: &[u8]) -> Result<Scanned, BodyError> {
    let whole = scan_in(&[document], ScanLimits::default());
    let single: Vec<&[u8]> = document.chunks(1).collect();
    let in_bytes = scan_in(&single, ScanLimits::default());
    assert_eq!(
        whole.as_ref().map_err(ToString::to_string),
        in_bytes.as_ref().map_err(ToString::to_string)
    );
    whole
}

/// Scans and parses, as a publish does.
fn read(document: &[u8]) -> Result<PublishBody, BodyError> {
    PublishBody::parse(&scan(document)?.0)
}

#[track_caller]
fn check(document: &str, metadata: &str, attachments: &[(&str, &[u8])]) {
    let (body, kept) = scan(document.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(body.metadata).unwrap(), metadata);
    let kept: Vec<_> = kept
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    assert_eq!(kept, attachments, "{document}");
    let lengths: Vec<_> = body.attachments.iter().map(|one| one.length).collect();
    let expected: Vec<_> = kept
        .iter()
        .map(|(_, content)| u64::try_from(content.len()).unwrap())
        .collect();
    assert_eq!(lengths, expected, "{document}");
}

#[track_caller]
fn check_error(document: &[u8], expected: &str) {
    let error = read(document).unwrap_err();
    let text = String::from_utf8_lossy(document);
    assert_eq!(error.to_string(), expected, "{text:.200}");
}

#[test]
fn data_leaves_the_document_and_all_else_stays() {
    check(
        r#" {"_attachments":{"@s/n-1.0.0.tgz":{"data" : "aGVsbG8=","length":5}}, "x":[1.50,"}"]} "#,
        r#" {"_attachments":{"@s/n-1.0.0.tgz":{"data" : "","length":5}}, "x":[1.50,"}"]}"#,
        &[("@s/n-1.0.0.tgz", b"hello")],
    );
}

#[test]
fn a_bundle_is_text() {
    check(
        r#"{"_attachments":{"a.sigstore":{"data":"{\"a\":\"\\u00e9\u00e9\"}"},"a.tgz":{"data":""}}}"#,
        r#"{"_attachments":{"a.sigstore":{"data":""},"a.tgz":{"data":""}}}"#,
        &[
            ("a.sigstore", "{\"a\":\"\\u00e9é\"}".as_bytes()),
            ("a.tgz", b""),
        ],
    );
}

#[test]
fn escapes_change_nothing() {
    check(
        r#"{"\u005fattachments":{"\u0061":{"d\u0061ta":"\/\/\u002f\u002F"}}}"#,
        r#"{"\u005fattachments":{"\u0061":{"d\u0061ta":""}}}"#,
        &[("a", &[0xff, 0xff, 0xff])],
    );
}

#[test]
fn data_elsewhere_is_an_ordinary_string() {
    for document in [
        r#"{"data":"!","_attachments":{"data":"!","a":[{"data":"!"}],"b":{"c":{"data":"!"}}}}"#,
        r#"{"x":{"_attachments":{"a":{"data":"!"}}},"__proto__":{"_attachments":{"a":{"data":"!"}}}}"#,
        r#"{"_attachments":[{"a":{"data":"!"}}],"x":"_attachments","y":{"a":{"data":"!"}}}"#,
        r#"{"_attachments":"x","y":{"a":{"data":"!"}}}"#,
        r#"{"_attachments":{"a":{"x":"data","y":"!"}}}"#,
    ] {
        check(document, document, &[]);
    }
}

#[test]
fn ambiguous_documents_are_refused() {
    check_error(
        br#"{"_attachments":{},"\u005fattachments":{}}"#,
        "the key `_attachments` is in the body twice",
    );
    check_error(
        br#"{"_attachments":{"a":{"data":"","data":""}}}"#,
        "the key `data` is in the body twice",
    );
    check_error(
        br#"{"_attachments":{"a":{"data":""},"a":{}}}"#,
        "the key `a` is in the body twice",
    );
    let many: Vec<String> = (0..9)
        .map(|at| format!(r#""{at}":{{"data":""}}"#))
        .collect();
    let many = format!(r#"{{"_attachments":{{{}}}}}"#, many.join(","));
    check_error(many.as_bytes(), "the body has more than 8 attachments");
}

#[test]
fn data_of_another_type_is_refused() {
    for value in ["1", "null", "true", "[]", "{}", "[\"aGVsbG8=\"]"] {
        let document = format!(r#"{{"_attachments":{{"a":{{"data":{value}}}}}}}"#);
        check_error(
            document.as_bytes(),
            "the data of attachment `a` is not a string",
        );
    }
}

#[test]
fn base64_is_strict() {
    for data in [
        "a",
        "aGVsbG8",
        "aGVsbG8=x",
        "aGVsbG9=",
        "aGVs bG8=",
        r"aGVs\nbG8=",
        "aGVsbG8==",
        "====",
        "aGVsbG8=aGVs",
        "_-__",
        r"\u0141GVs",
        r"\u00zz",
        r"\u00e9AAA",
        "é",
        "=aaa",
        r"\x41",
    ] {
        let document = format!(r#"{{"_attachments":{{"a":{{"data":"{data}"}}}}}}"#);
        let expected = "the data of attachment `a` is not valid base64";
        check_error(document.as_bytes(), expected);
    }
}

#[test]
fn only_one_object_is_a_document() {
    for document in ["[]", "1", "\"x\"", "null", "}", "\u{feff}{}"] {
        check_error(document.as_bytes(), "the body is not a JSON object");
    }
    for document in [
        "",
        " ",
        "{",
        r#"{"a"#,
        r#"{"_attachments":{"a":{"data":"aGVs"#,
    ] {
        check_error(
            document.as_bytes(),
            "the body ends before the document does",
        );
    }
    for document in ["{}{}", "{} x", "{]", r#"{"a":[}"#, r#"{"\x":1}"#] {
        check_error(document.as_bytes(), "the body is not valid JSON");
    }
    for document in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":}",
        b"{\"a\" \"b\"}",
        b"{\"a\":\"\n\"}",
    ] {
        assert!(matches!(read(document), Err(BodyError::Json(_))));
    }
    let control = b"{\"_attachments\":{\"a.sigstore\":{\"data\":\"\x01\"}}}";
    check_error(
        control,
        "the data of attachment `a.sigstore` is not valid text",
    );
}

#[test]
fn limits_hold() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    check_error(
        deep.as_bytes(),
        "the body is nested more than 128 levels deep",
    );
    let name = "a".repeat(MAX_KEY_BYTES);
    let document = format!(r#"{{"{name}":1,"_attachments":{{"{name}":{{"data":""}}}}}}"#);
    check_error(document.as_bytes(), "the name of an attachment is too long");
    let bundle = "a".repeat(1024 * 1024);
    let document = format!(r#"{{"_attachments":{{"a.sigstore":{{"data":"{bundle}"}}}}}}"#);
    let error = scan_in(&[document.as_bytes()], ScanLimits::default()).unwrap_err();
    assert!(matches!(error, BodyError::BundleTooLarge(..)), "{error}");
}

#[test]
fn metadata_is_bounded_and_data_is_not_metadata() {
    let limits = ScanLimits {
        metadata_bytes: 64,
        ..ScanLimits::default()
    };
    let data = STANDARD.encode(vec![7; 100_000]);
    let document = format!(r#"{{"_attachments":{{"a.tgz":{{"data":"{data}"}}}}}}"#);
    let (_, kept) = scan_in(&[document.as_bytes()], limits).unwrap();
    assert_eq!(kept[0].1, vec![7; 100_000]);
    let large = format!(r#"{{"readme":"{}"}}"#, "a".repeat(60));
    let error = scan_in(&[large.as_bytes()], limits).unwrap_err();
    assert!(matches!(error, BodyError::MetadataTooLarge(64)), "{error}");
}

#[test]
fn a_failing_sink_is_not_the_clients_fault() {
    struct Full;
    impl AttachmentSink for Full {
        fn begin(&mut self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn end(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut scanner = Scanner::new(ScanLimits::default());
    let document = br#"{"_attachments":{"a":{"data":"aGVs"}}}"#;
    let error = scanner.feed(document, &mut Full).unwrap_err();
    let error = crate::error::RegistryError::from(error);
    assert_eq!(error.status().as_u16(), 507);
    assert!(scanner.feed(b"}", &mut Full).is_err());
}

/// Any JSON value as text, with the space and the escapes that a serializer would not write.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-1.50e+3".to_owned()),
        Just(r#""\u005fattachments""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[ {}\n]", items.join(" ,"))),
            prop::collection::vec((key(), inner), 0..4).prop_map(|fields| {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(key, value)| format!("{key} :{value}"))
                    .collect();
                format!("{{{}}}", fields.join(", "))
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""data""#.to_owned()),
        Just(r#""_attachments""#.to_owned()),
        Just(r#""__proto__""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

prop_compose! {
    /// A document, the same without data, and the decoded data.
    fn document()(
        before in json(),
        after in json(),
        field in json(),
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) -> (String, String, Vec<(String, Vec<u8>)>) {
        let with = |data: &dyn Fn(&[u8]) -> String| {
            let attachments: Vec<_> = contents.iter().enumerate().map(|(index, content)| {
                let data = data(content);
                format!(r#""a{index}.tgz":{{"x":{field}, "data" : "{data}" ,"length":1}}"#)
            }).collect();
            let attachments = attachments.join(",");
            format!(r#"{{"before":{before},"_attachments":{{{attachments}}},"after":{after}}}"#)
        };
        let full = with(&|content| STANDARD.encode(content).replace('/', "\\/"));
        let metadata = with(&|_| String::new());
        let decoded = contents.iter().enumerate()
            .map(|(index, content)| (format!("a{index}.tgz"), content.clone()))
            .collect();
        (full, metadata, decoded)
    }
}

/// Cuts `document` at the given places, whatever they are.
fn split<'a>(document: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(document.len())).collect();
    places.sort_unstable();
    let (mut chunks, mut start) = (Vec::new(), 0);
    for place in places {
        chunks.push(&document[start..place]);
        start = place;
    }
    chunks.push(&document[start..]);
    chunks
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        (full, metadata, decoded) in document(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let chunks = split(full.as_bytes(), &cuts);
        let (body, kept) = scan_in(&chunks, ScanLimits::default()).unwrap();
        prop_assert_eq!(String::from_utf8(body.metadata).unwrap(), metadata);
        prop_assert_eq!(kept, decoded);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn random_json_like_bytes_never_panic(
        text in r#"([\[\]{}:, \\"]|"_attachments"|"data"|"a"|\{"_attachments":\{"a":\{"data":|aGVs|=|1|\\u00){0,40}"#,
    ) {
        let _ = read(text.as_bytes());
    }

    /// What is read was valid JSON as a whole, and says the same as `serde_json` says.
    #[test]
    fn what_is_accepted_is_what_serde_json_accepts(
        (full, _, _) in document(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\"\\{}[]:,a=1 \xff\0".to_vec()),
    ) {
        let mut mutated = full.into_bytes();
        let at = at.index(mutated.len());
        mutated[at] = byte;
        let expected = serde_json::from_slice::<RawObject>(&mutated);
        let Ok((body, kept)) = scan_in(&[&mutated], ScanLimits::default()) else {
            return Ok(());
        };
        let found = serde_json::from_slice::<RawObject>(&body.metadata);
        prop_assert_eq!(found.is_ok(), expected.is_ok());
        let Ok(expected) = expected else { return Ok(()) };
        let Some(attachments) = expected.get("_attachments") else { return Ok(()) };
        let Ok(attachments) = serde_json::from_str::<RawObject>(attachments.get()) else {
            return Ok(());
        };
        for (name, content) in kept {
            let fields: RawObject = serde_json::from_str(attachments[&name].get()).unwrap();
            let data: String = serde_json::from_str(fields["data"].get()).unwrap();
            prop_assert_eq!(STANDARD.decode(data).unwrap(), content);
        }
    }
}
