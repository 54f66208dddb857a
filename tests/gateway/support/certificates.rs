//! A certificate authority of a test's own, and a server's certificate.

use std::path::Path;
use std::process::{Command, Stdio};

/// `ca.pem`, and `server.pem` with its `server.key` for 127.0.0.1; `None` without `openssl`.
pub fn certificates(home: &Path) -> Option<()> {
    let run = |arguments: &[&str]| {
        let status = Command::new("openssl")
            .args(arguments)
            .current_dir(home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status
            .ok()
            .map(|status| assert!(status.success(), "{arguments:?}"))
    };
    let subject = "subjectAltName=IP:127.0.0.1";
    run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ])?;
    run(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=server",
        "-addext",
        subject,
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ])?;
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-copy_extensions",
        "copy",
        "-out",
        "server.pem",
    ])
}
