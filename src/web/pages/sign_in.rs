//! Signing in and out in a browser, and what it remembers besides.

use askama::Template;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    session::{self, Theme},
    visit::{Sent, Shell, Visit},
};
use crate::{
    auth::{LoggedIn, Sender},
    error::RegistryError,
    events::Event,
    models::Username,
    storage::Profile,
    web::{extract::Query, users::tell_of_login},
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    shell: &'a Shell,
    back: String,
    name: String,
    may_register: bool,
    wants_pass: bool,
    problem: Option<String>,
}

/// `GET /-/web/login?back=…`
pub(in crate::web) fn sign_in_page(visit: &Visit, query: &Query) -> Response {
    if !visit.state.settings.has_page_logins {
        return visit.refuse(&RegistryError::not_found("not found"));
    }
    let back = visit.way_back(query.get("back"));
    if visit.shell.user.is_some() {
        return visit.go_to(&back);
    }
    let page = Page {
        shell: &visit.shell,
        back,
        name: String::new(),
        may_register: visit.state.auth.registration_is_open(),
        wants_pass: false,
        problem: None,
    };
    visit.render(StatusCode::OK, &page)
}

/// Who signs in, or makes an account.
#[derive(Deserialize)]
pub(in crate::web) struct Form {
    username: String,
    password: SecretString,
    #[serde(default)]
    otp: String,
    #[serde(default)]
    back: String,
    #[serde(default)]
    create: Option<String>,
}

/// `POST /-/web/login`
pub(in crate::web) async fn sign_in(Sent(visit, form): Sent<Form>) -> Response {
    let form = match form {
        Ok(form) => form,
        Err(error) => return visit.refuse(&error),
    };
    if !visit.state.settings.has_page_logins {
        return visit.refuse(&RegistryError::not_found("not found"));
    }
    let back = visit.way_back(Some(&form.back));
    match logged_in(&visit, &form).await {
        Ok(logged_in) => {
            let mut response = visit.go_to(&back);
            keep(
                &mut response,
                session::keep(Some(&logged_in.token), &visit.base),
            );
            response
        }
        Err(error) if error.status().is_server_error() => visit.refuse(&error),
        Err(error) => {
            let wants_pass = matches!(error, RegistryError::OneTimePassRequired { .. });
            let page = Page {
                shell: &visit.shell,
                back,
                name: form.username,
                may_register: visit.state.auth.registration_is_open(),
                wants_pass,
                problem: Some(error.to_string()),
            };
            visit.render(error.status(), &page)
        }
    }
}

async fn logged_in(visit: &Visit, form: &Form) -> Result<LoggedIn, RegistryError> {
    let user: Username = form
        .username
        .trim()
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    let (auth, sender) = (&visit.state.auth, Sender::from(&visit.caller));
    let logged_in = if form.create.is_some() {
        let profile = Profile::default();
        auth.register(&user, &form.password, profile, &sender).await
    } else {
        let pass = form.otp.trim();
        let pass = (!pass.is_empty()).then(|| SecretString::from(pass));
        auth.login(&user, &form.password, &sender, pass.as_ref())
            .await
    };
    let is_new = logged_in.as_ref().is_ok_and(|logged_in| logged_in.is_new);
    let failure = logged_in.as_ref().err();
    tell_of_login(
        &visit.state,
        &visit.caller,
        (Some(&user), "web"),
        is_new,
        failure,
    );
    logged_in
}

/// A form that says nothing but where to go on.
#[derive(Deserialize)]
pub(in crate::web) struct Back {
    #[serde(default)]
    back: String,
    #[serde(default)]
    theme: String,
}

/// `POST /-/web/logout`: ends the session, here and for whoever has its cookie.
pub(in crate::web) async fn sign_out(Sent(visit, form): Sent<Back>) -> Response {
    if let Err(error) = form {
        return visit.refuse(&error);
    }
    if let Some(token) = session::token(&visit.headers) {
        let prefix = token.expose_secret().chars().take(8).collect();
        match visit.state.auth.logout(&token).await {
            Ok(true) => {
                let event = Event::LoggedOut { token: prefix };
                visit.state.events.tell(&visit.caller, None, &event);
            }
            Ok(false) => {}
            Err(error) => return visit.refuse(&error),
        }
    }
    let mut response = visit.go_to(&visit.way_back(None));
    keep(&mut response, session::keep(None, &visit.base));
    response
}

/// `POST /-/web/theme`
pub(in crate::web) async fn set_theme(Sent(visit, form): Sent<Back>) -> Response {
    let form = match form {
        Ok(form) => form,
        Err(error) => return visit.refuse(&error),
    };
    let mut response = visit.go_to(&visit.way_back(Some(&form.back)));
    keep(&mut response, Theme::parse(&form.theme).keep(&visit.base));
    response
}

fn keep(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
