//! `npm login` and second factors that go through a browser: the client gets two addresses, its
//! user opens one, the client asks the other until there is an answer.

use askama::Template;
use axum::{
    extract::{FromRequestParts as _, Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    error::{Challenge, Error},
    extract::{Base, PathText, Query, Visitor, small_body},
    pages::{Shell, Visit, path_of, sign_in_page},
    respond,
    state::WebState,
    users::tell_of_login,
};
use crate::{
    auth::{Approval, SessionIds, SessionView},
    error::RegistryError,
    models::{AskedBy, BaseUrl, Caller, SessionPurpose, Username},
};

/// Seconds between two questions of a client that waits.
const POLL: HeaderValue = HeaderValue::from_static("5");
/// How much a page shows of what a client says of itself.
const MAX_SHOWN: usize = 60;

/// `POST /-/v1/login`: where to sign in, and where to wait.
pub(super) async fn begin(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    Base(base): Base,
    request: Request,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let mut asked_by = asked_by(request.headers(), &caller);
    let body = small_body(request, &state).await?;
    // Older clients send nothing, or what is no JSON; it is not needed.
    let wish: Wish = serde_json::from_slice(&body).unwrap_or_default();
    let machine = wish.hostname.as_deref().map(shown);
    asked_by.machine = machine.filter(|name| !name.is_empty());
    let purpose = SessionPurpose::Login {
        wants_account: wish.create,
    };
    let ids = state.auth.begin_session(purpose, asked_by).await?;
    let Addresses { page, done } = Addresses::of(&base, &ids);
    let body = json!({ "loginUrl": page, "doneUrl": done });
    Ok(respond::secret_json(StatusCode::OK, &body))
}

/// What a client says when it begins.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wish {
    /// npm up to version 9 names its machine.
    hostname: Option<String>,
    /// `npm adduser` wants an account.
    create: bool,
}

/// `/-/v1/done/:session`, by any method: npm asks with the method of the call that was challenged.
pub(super) async fn done(
    State(state): State<WebState>,
    PathText(id): PathText,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    if let Some(token) = state.auth.fetch(&id).await? {
        let body = json!({ "token": token.expose_secret() });
        return Ok(respond::secret_json(StatusCode::OK, &body));
    }
    let mut response = respond::secret_json(StatusCode::ACCEPTED, &json!({}));
    response.headers_mut().insert(header::RETRY_AFTER, POLL);
    Ok(response)
}

/// `POST /-/v1/login_cli/:session`: the answer of the page, as JSON from a script or as its form.
pub(super) async fn answer(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    PathText(id): PathText,
    request: Request,
) -> Result<Response, Error> {
    require_enabled(&state)?;
    let (mut parts, body) = request.into_parts();
    let visit = Visit::from_request_parts(&mut parts, &state).await?;
    let request = Request::from_parts(parts, body);
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| {
            value
                .as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
    let body = small_body(request, &state).await?;
    let answer = Answer::read(&body, is_form)?;
    let answered = approve(&state, &caller, &id, answer).await;
    if is_form {
        return Ok(after_form(&visit, &id, answered).await);
    }
    let token = answered?;
    let token = token.as_ref().map(ExposeSecret::expose_secret);
    let body = json!({ "ok": "you are authenticated", "token": token });
    Ok(respond::secret_json(StatusCode::CREATED, &body))
}

/// `GET /-/web/login?next=…/-/v1/login_cli/:session`: the page. Without `next`, nobody waits for the answer but the
/// browser itself.
pub(super) async fn page(visit: Visit, query: Query) -> Result<Response, Error> {
    let Some(next) = query.get("next") else {
        return Ok(sign_in_page(&visit, &query));
    };
    require_enabled(&visit.state)?;
    let id = next.rsplit('/').next();
    Ok(page_of(&visit, id.unwrap_or_default(), None).await)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    username: Option<String>,
    password: Option<SecretString>,
    otp: Option<SecretString>,
    create: bool,
}

impl Answer {
    fn read(body: &[u8], is_form: bool) -> Result<Self, RegistryError> {
        if !is_form {
            return serde_json::from_slice(body)
                .map_err(|_| RegistryError::bad_request("the body is not valid JSON"));
        }
        let mut answer = Self::default();
        for (key, value) in url::form_urlencoded::parse(body) {
            match &*key {
                "username" => answer.username = Some(value.into_owned()),
                "password" => answer.password = Some(value.into_owned().into()),
                "otp" => answer.otp = Some(value.into_owned().into()),
                "create" => answer.create = true,
                _ => {}
            }
        }
        Ok(answer)
    }
}

async fn approve(
    state: &WebState,
    caller: &Caller,
    id: &str,
    answer: Answer,
) -> Result<Option<SecretString>, RegistryError> {
    let user = answer.username.map(|name| name.parse()).transpose();
    let user = user.map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    let pass = answer
        .otp
        .filter(|pass| !pass.expose_secret().trim().is_empty());
    let approval = Approval {
        user,
        password: answer.password,
        pass,
        is_new: answer.create,
        sender: caller.into(),
    };
    let (user, is_new) = (approval.user.clone(), approval.is_new);
    let approved = state.auth.approve(id, approval).await;
    // No token: a second factor was shown, which nobody signs in with.
    let user = user.filter(|_| !matches!(approved, Ok(None)));
    let failure = approved.as_ref().err();
    tell_of_login(state, caller, (user.as_ref(), "web"), is_new, failure);
    approved
}

async fn after_form(
    visit: &Visit,
    id: &str,
    answered: Result<Option<SecretString>, RegistryError>,
) -> Response {
    match answered {
        Ok(_) => render(visit, StatusCode::OK, PageState::Done),
        Err(error) if error.status().is_server_error() => Error(error).into_response(),
        Err(error) => {
            let mut response = page_of(visit, id, Some(error.to_string())).await;
            *response.status_mut() = error.status();
            response
        }
    }
}

fn require_enabled(state: &WebState) -> Result<(), RegistryError> {
    if state.settings.web_login {
        Ok(())
    } else {
        // Any other status would keep pnpm from asking in the terminal.
        Err(RegistryError::not_found(
            "login through the browser is off; use `npm login --auth-type=legacy`",
        ))
    }
}

struct Addresses {
    page: String,
    done: String,
}

impl Addresses {
    fn of(base: &BaseUrl, ids: &SessionIds) -> Self {
        let (SessionIds { page, done }, prefix) = (ids, path_of(base));
        Self {
            page: format!("{base}/-/web/login?next={prefix}/-/v1/login_cli/{page}"),
            done: format!("{base}/-/v1/done/{done}"),
        }
    }
}

/// Who asks, as the page shows it.
pub(super) fn asked_by(headers: &HeaderMap, caller: &Caller) -> AskedBy {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|value| value.to_str().ok());
    AskedBy {
        client: shown(agent.unwrap_or("a client that does not say its name")),
        machine: None,
        address: caller.address,
    }
}

/// What may be shown of a text that a client chose: nothing that could pass for the page's own.
fn shown(text: &str) -> String {
    let is_plain = |character: &char| {
        *character == ' ' || character.is_ascii_graphic() || character.is_alphanumeric()
    };
    text.chars().filter(is_plain).take(MAX_SHOWN).collect()
}

/// Adds to a challenge for a second factor where a browser can answer it.
pub(super) async fn offer_browser(
    state: &WebState,
    challenged: Response,
    Challenge { user, message }: Challenge,
    base: &BaseUrl,
    asked_by: AskedBy,
) -> Response {
    let begun = match user.parse::<Username>() {
        Ok(user) => {
            let purpose = SessionPurpose::SecondFactor { user };
            state.auth.begin_session(purpose, asked_by).await
        }
        Err(error) => Err(RegistryError::internal(error)),
    };
    let ids = match begun {
        Ok(ids) => ids,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a second factor is asked for without a browser"
            );
            return challenged;
        }
    };
    let Addresses { page, done } = Addresses::of(base, &ids);
    let error = RegistryError::OneTimePassRequired { message, user };
    let body = json!({
        "error": message,
        "code": error.code(),
        "hint": error.hint(),
        "authUrl": page,
        "doneUrl": done,
    });
    let mut response = respond::secret_json(challenged.status(), &body);
    let headers = response.headers_mut();
    if let Some(value) = challenged.headers().get(header::WWW_AUTHENTICATE) {
        headers.insert(header::WWW_AUTHENTICATE, value.clone());
    }
    // Yarn looks for these words.
    let notice = format!(
        "Open {page} to use your security key for authentication or enter OTP from your \
         authenticator app"
    );
    if let Ok(notice) = HeaderValue::try_from(notice) {
        headers.insert("npm-notice", notice);
    }
    response
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    shell: &'a Shell,
    state: PageState,
}

enum PageState {
    /// The client can go on.
    Done,
    /// There is nothing to answer.
    Closed(String),
    /// The form.
    Open(Form),
}

struct Form {
    is_second_factor: bool,
    /// Whether an account can be made here, and whether that is what the client asked for.
    may_register: bool,
    wants_account: bool,
    asked_by: AskedBy,
    action: String,
    problem: Option<String>,
}

async fn page_of(visit: &Visit, id: &str, problem: Option<String>) -> Response {
    let state = &visit.state;
    let (status, page) = match state.auth.session(id).await {
        Ok(SessionView {
            purpose,
            asked_by,
            is_pending: true,
        }) => {
            let may_register = state.auth.registration_is_open();
            let wants_account = purpose
                == SessionPurpose::Login {
                    wants_account: true,
                };
            let form = Form {
                is_second_factor: matches!(purpose, SessionPurpose::SecondFactor { .. }),
                may_register,
                wants_account: may_register && wants_account,
                asked_by,
                action: format!("{}/-/v1/login_cli/{id}", visit.shell.prefix),
                problem,
            };
            (StatusCode::OK, PageState::Open(form))
        }
        Ok(_) => {
            let reason = "This login was answered already.".to_owned();
            (StatusCode::CONFLICT, PageState::Closed(reason))
        }
        Err(error) => {
            let reason = if error.status().is_server_error() {
                "Logins cannot be looked up right now; try again in a moment."
            } else {
                "There is no such login any more: it is done, or it took too long."
            };
            (error.status(), PageState::Closed(reason.to_owned()))
        }
    };
    render(visit, status, page)
}

fn render(visit: &Visit, status: StatusCode, state: PageState) -> Response {
    let shell = &visit.shell;
    visit.render(status, &Page { shell, state })
}
