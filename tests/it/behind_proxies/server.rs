//! nginx, Caddy and Traefik, each with the files of `deploy/` that the documentation shows. Only
//! names, addresses, ports and paths are those of the test.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Certificate;
use tempfile::TempDir;

use crate::{docs::tool, support::tls::Authority};

/// Where the files say that the registry is, and by which name clients know it.
const REGISTRY: &str = "127.0.0.1:4873";
const NAME: &str = "npm.example.com";
const CERTIFICATE: &str = "/etc/ssl/npm.example.com.pem";
const KEY: &str = "/etc/ssl/npm.example.com.key";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Caddy,
    Traefik,
}

impl Kind {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "nginx" => Self::Nginx,
            "caddy" => Self::Caddy,
            "traefik" => Self::Traefik,
            _ => panic!("nobody knows {name}"),
        }
    }
}

/// A running server before a registry; it ends when dropped.
pub(super) struct Proxy {
    /// Where clients find the registry: `https://localhost:1/npm`.
    pub(super) url: String,
    pub(super) authority: Authority,
    child: Child,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Before what listens on `target`.
    pub(super) async fn before(target: SocketAddr, kind: Kind) -> Self {
        let authority = Authority::new();
        // Another test may be as quick to take the port.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let mut child = start(kind, folder.path(), port, target, &authority);
            let url = format!("https://localhost:{port}/npm");
            if answers(&mut child, &url, &authority).await {
                return Self {
                    url,
                    authority,
                    child,
                    _folder: folder,
                };
            }
            let _ = child.kill();
            child.wait().unwrap();
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(log.contains("in use"), "{kind:?} does not start: {log}");
        }
        panic!("{kind:?} found no port");
    }

    /// A client that trusts nobody else.
    pub(super) fn client(&self) -> reqwest::ClientBuilder {
        client(&self.authority)
    }

    pub(super) fn origin(&self) -> &str {
        self.url.strip_suffix("/npm").unwrap()
    }
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    let roots = Certificate::from_pem_bundle(authority.pem().as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only(roots)
}

fn free_port() -> u16 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/free-ports");
    let output = Command::new(script).arg("1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap()
}

/// Whether it serves with a certificate of ours before it ends.
async fn answers(child: &mut Child, url: &str, authority: &Authority) -> bool {
    let client = client(authority).build().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while Instant::now() < patience {
        // Outside of the registry's path all of them answer themselves.
        let outside = url.replace("/npm", "/");
        if let Ok(answer) = client.get(outside).send().await {
            // Until it has read its files, Traefik has a certificate of its own.
            drop(answer);
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// A file of `deploy/` with other words in the place of some. Each must be there.
fn adapted(file: &str, words: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let mut text = fs::read_to_string(path).unwrap();
    for (word, other) in words {
        assert!(text.contains(word), "{file} has no `{word}`");
        text = text.replace(word, other);
    }
    text
}

fn start(kind: Kind, folder: &Path, port: u16, target: SocketAddr, authority: &Authority) -> Child {
    let tls = authority.settings();
    let [certificate, key] =
        [tls.certificate, tls.key].map(|file| file.unwrap().display().to_string());
    let target = target.to_string();
    let files = [(CERTIFICATE, certificate.as_str()), (KEY, key.as_str())];
    let mut command = match kind {
        Kind::Nginx => nginx(folder, port, &target, &files),
        Kind::Caddy => caddy(folder, port, &target, &files),
        Kind::Traefik => traefik(folder, port, &target, &files),
    };
    let log = fs::File::create(folder.join("log")).unwrap();
    command
        .env_clear()
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn nginx(folder: &Path, port: u16, target: &str, files: &[(&str, &str); 2]) -> Command {
    let listen = format!("listen 127.0.0.1:{port} ssl");
    let words = [
        (REGISTRY, target),
        ("listen 443 ssl", &listen),
        ("    listen [::]:443 ssl http2;\n", ""),
        (NAME, "localhost"),
    ];
    let site = adapted("nginx/rustaccio.conf", &[&files[..], &words].concat());
    fs::write(folder.join("site.conf"), site).unwrap();
    // What Debian's own file is for. It is one process, so that nothing is left of it when that is
    // killed.
    let main = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n\
        events {}\nhttp {\n  access_log off;\n  client_body_temp_path body;\n  \
        proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  \
        scgi_temp_path scgi;\n  include site.conf;\n}\n";
    fs::write(folder.join("nginx.conf"), main).unwrap();
    let mut command = Command::new(tool("nginx"));
    command.arg("-p").arg(folder).args(["-e", "stderr"]);
    command.arg("-c").arg(folder.join("nginx.conf"));
    command
}

fn caddy(folder: &Path, port: u16, target: &str, files: &[(&str, &str); 2]) -> Command {
    let [(_, certificate), (_, key)] = files;
    // Without a name that others can look up it gets no certificate by itself.
    let site = format!("https://localhost:{port} {{\n\ttls {certificate} {key}\n");
    let name = format!("{NAME} {{\n");
    let file = adapted(
        "caddy/Caddyfile",
        &[(REGISTRY, target), (&name, site.as_str())],
    );
    let all = format!(
        "{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tservers {{\n\t\tprotocols h1 h2\n\t}}\n}}\n{file}"
    );
    fs::write(folder.join("Caddyfile"), all).unwrap();
    let mut command = Command::new(tool("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
    command
}

fn traefik(folder: &Path, port: u16, target: &str, files: &[(&str, &str); 2]) -> Command {
    let words = [(REGISTRY, target), (NAME, "localhost")];
    let routes = adapted("traefik/rustaccio.yml", &[&files[..], &words].concat());
    let file = folder.join("rustaccio.yml").display().to_string();
    fs::write(&file, routes).unwrap();
    let address = format!("\"127.0.0.1:{port}\"");
    let words = [
        ("\":443\"", address.as_str()),
        ("/etc/traefik/rustaccio.yml", &file),
    ];
    let main = adapted("traefik/traefik.yml", &words);
    // It asks others whether there is a newer one.
    let main = format!("{main}\nglobal:\n  checkNewVersion: false\n  sendAnonymousUsage: false\n");
    fs::write(folder.join("traefik.yml"), main).unwrap();
    let mut command = Command::new(tool("traefik"));
    command.arg("--configFile=traefik.yml");
    command
}
