use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn flags(address: &str) -> Layer {
    let mut layer = Layer::default();
    layer.server.address = Some(address.to_owned());
    layer.storage.directories = Some(vec!["/data".to_owned()]);
    layer
}

fn with_file(text: &str) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(path), &Environment::default(), Layer::default())
}

fn error_of(text: &str) -> String {
    with_file(text).unwrap_err().to_string()
}

const WHOLE: &str = r#"
[server]
address = "127.0.0.1:9010"
region = "eu-north-1"
domains = ["s3.example.org", "S3.local"]
signature_v2 = false
portless_host = false

[root]
user = "operator"
password = "long enough"
display_name = "The operator"

[[users]]
name = "alice"
access_key = "ALICE"
secret_key = "alice's secret"
account = "123456789012"

[[users]]
name = "second"
access_key = "SECOND"
secret_key = "second's secret"
account = "000000000001"

[storage]
directories = ["/mnt/disk{1...4}"]

[storage.classes]
STANDARD = "2+2"
REDUCED_REDUNDANCY = "3+1"
"#;

#[test]
fn bounds_and_metrics_are_read() {
    let config = with_file(
        "[server]\nrequests = 5\nmemory = \"512 MiB\"\nmetrics = \"public\"\n\
         client_connections = 9\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
         [storage]\ndirectories = [\"/d\"]",
    );
    let server = config.unwrap().server;
    assert_eq!(server.requests, Some(5));
    assert_eq!(server.client_connections, Some(9));
    let proxies = server.trusted_proxies.iter().map(ToString::to_string);
    assert_eq!(proxies.collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    assert_eq!(server.memory_bytes, Some(512 << 20));
    assert_eq!(server.metrics, Metrics::Public);
    for (line, word) in [
        ("requests = 0", "requests"),
        ("client_connections = 0", "client_connections"),
        ("trusted_proxies = [\"proxy\"]", "trusted_proxies"),
        ("memory = \"1MiB\"", "memory"),
        ("memory = \"99999999999999GiB\"", "memory"),
        ("memory = \"much\"", "memory"),
        ("metrics = \"yes\"", "metrics"),
        ("metrics_token = \"short\"", "metrics_token"),
    ] {
        let error = error_of(&format!("[server]\n{line}\n"));
        assert!(error.contains(word), "{line}: {error}");
    }
    let variables = environment(&[
        ("MINIO_PROMETHEUS_AUTH_TYPE", "jwt"),
        ("DRYSTONE_REQUESTS", "7"),
        ("DRYSTONE_METRICS_TOKEN", "a token of one's-own"),
    ]);
    let error = load(None, &variables, flags("127.0.0.1:0")).unwrap_err();
    assert!(error.to_string().contains("metrics_token"), "{error}");
}

#[test]
fn the_memory_of_metadata_is_read_and_has_a_least() {
    let of = |text: &str| {
        let storage = format!("[storage]\ndirectories = [\"/d\"]\nmetadata_memory = {text}");
        with_file(&storage).map(|config| config.storage.metadata_memory_bytes)
    };
    assert_eq!(of("\"64MiB\"").unwrap(), Some(64 << 20));
    let error = of("\"63MiB\"").unwrap_err().to_string();
    assert!(
        error.contains("metadata_memory") && error.contains("64MiB"),
        "{error}"
    );
    let variables = environment(&[("DRYSTONE_METADATA_MEMORY", "2GiB")]);
    let config = load(None, &variables, flags("127.0.0.1:0")).unwrap();
    assert_eq!(config.storage.metadata_memory_bytes, Some(2 << 30));
}

#[test]
fn the_connections_of_clients_are_set_by_the_environment() {
    let variables = environment(&[
        ("DRYSTONE_CLIENT_CONNECTIONS", "8"),
        ("DRYSTONE_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
    ]);
    let server = load(None, &variables, flags("127.0.0.1:0")).unwrap().server;
    assert_eq!(server.client_connections, Some(8));
    assert_eq!(server.trusted_proxies.len(), 2);
    let variables = environment(&[("DRYSTONE_CLIENT_CONNECTIONS", "many")]);
    assert!(load(None, &variables, flags("127.0.0.1:0")).is_err());
}

/// It is the same at every start, another for every secret, and not the secret.
#[test]
fn the_metrics_token_is_made_from_roots_secret() {
    let server = with_file(WHOLE).unwrap().server;
    let token = |secret: &str| {
        server
            .metrics_token(&Secret::from(secret))
            .expose()
            .to_owned()
    };
    assert_eq!(token("a"), token("a"));
    assert_ne!(token("a"), token("b"));
    assert_eq!(token("long enough").len(), 64);
}

#[test]
fn a_whole_file_is_read() {
    let config = with_file(WHOLE).unwrap();
    assert_eq!(config.server.address.to_string(), "127.0.0.1:9010");
    assert!(!config.server.signature_v2 && !config.server.portless_host);
    assert_eq!(config.server.domains, ["s3.example.org", "s3.local"]);
    assert_eq!(config.storage.directories.len(), 4);
    assert_eq!(
        config.storage.classes["REDUCED_REDUNDANCY"].to_string(),
        "3+1"
    );
    assert_eq!(config.root.unwrap().access_key, "operator");
    assert_eq!(config.users[0].account.display_name, "alice");
    assert_eq!(config.users[1].account, config.root_user.account);
    assert_ne!(
        config.users[0].account.canonical_id,
        config.root_user.account.canonical_id
    );
}

#[test]
fn s_05_a_path_prefix_is_a_plain_path() {
    let prefix = |text: &str| {
        let file = format!("[server]\npath_prefix = {text:?}\n[storage]\ndirectories = [\"/d\"]\n");
        with_file(&file)
            .map(|config| config.server.path_prefix)
            .ok()
    };
    for (text, expected) in [
        ("/s3", Some("/s3")),
        ("/s3/", Some("/s3")),
        ("/a/b-c.d", Some("/a/b-c.d")),
        ("/", Some("")),
        ("", Some("")),
        ("s3", None),
        ("/a//b", None),
        ("/a/../b", None),
        ("/a b", None),
        ("/a%20b", None),
        ("/minio", None),
        ("/_admin/x", None),
    ] {
        assert_eq!(prefix(text).as_deref(), expected, "{text}");
    }
    let environment = environment(&[("DRYSTONE_PATH_PREFIX", "/env")]);
    let config = load(None, &environment, flags(":1")).unwrap();
    assert_eq!(config.server.path_prefix, "/env");
}

#[test]
fn no_secret_is_shown() {
    let shown = format!("{:?}", with_file(WHOLE).unwrap());
    for secret in ["long enough", "alice's secret", "second's secret"] {
        assert!(!shown.contains(secret));
    }
    let environment = environment(&[("MINIO_ROOT_PASSWORD", "long enough")]);
    assert!(!format!("{environment:?}").contains("long enough"));
    let broken = error_of("[root]\nuser = \"u\"\npassword = \"long enough\n");
    assert!(!broken.contains("long enough"), "{broken}");
}

#[test]
fn a_56_a_secret_without_its_quotes_is_not_shown() {
    for value in [
        "12345678",
        "12.345",
        "[\"12345678\"]",
        "{ a = 12345678 }",
        "2026-01-02",
    ] {
        for setting in [
            format!("[root]\nuser = \"u\"\npassword = {value}\n"),
            format!("[server]\nmetrics_token = {value}\n"),
            format!(
                "[[users]]\nname = \"a\"\naccess_key = \"abc\"\naccount = \"000000000002\"\n\
                 secret_key = {value}\n"
            ),
        ] {
            let error = error_of(&setting);
            assert!(error.contains("expected a string in quotes"), "{error}");
            let shows = ["1234", "12.3", "2026"]
                .iter()
                .any(|part| error.contains(part));
            assert!(!shows, "{error}");
        }
    }
    let unknown = error_of("[server]\nadress = \":9000\"\n");
    assert!(unknown.contains("adress"), "{unknown}");
    let number = error_of("[server]\nrequests = \"many, expected a few\"\n");
    assert!(!number.contains("many"), "{number}");
}

#[test]
fn flags_win_over_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, WHOLE).unwrap();
    let environment = environment(&[
        ("DRYSTONE_CONFIG", path.to_str().unwrap()),
        ("DRYSTONE_ADDRESS", "127.0.0.1:1"),
        ("DRYSTONE_REGION", "from-environment"),
        ("MINIO_REGION", "from-alias"),
        ("DRYSTONE_SIGNATURE_V2", "true"),
        ("DRYSTONE_PORTLESS_HOST", "true"),
    ]);
    let config = load(None, &environment, flags("127.0.0.1:2")).unwrap();
    assert_eq!(config.server.address.port, 2);
    assert_eq!(config.server.region, "from-environment");
    assert!(config.server.signature_v2 && config.server.portless_host);
    assert_eq!(config.storage.directories, [PathBuf::from("/data")]);
    assert_eq!(config.root.unwrap().access_key, "operator");
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    let error = error_of("[server]\nregion = \"x\"\nadress = \":9000\"\n");
    assert!(error.contains("config.toml:3: "), "{error}");
    assert!(error.contains("adress"), "{error}");
    let error = error_of("[[users]]\nname = \"a\"\ncolour = 1\n");
    assert!(error.contains("config.toml:3: "), "{error}");
}

#[test]
fn s_103_names_that_minio_scripts_set_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "from the file\n").unwrap();
    let variables = environment(&[
        ("MINIO_ROOT_USER", "user"),
        ("MINIO_ROOT_PASSWORD_FILE", file.to_str().unwrap()),
        ("MINIO_SITE_REGION", "site"),
        ("MINIO_DOMAIN", "a.example,b.example"),
        ("MINIO_VOLUMES", "/mnt/disk{1...2} /mnt/other"),
        ("MINIO_BROWSER", "off"),
        ("HOME", "/root"),
    ]);
    let config = load(None, &variables, Layer::default()).unwrap();
    let root = config.root.unwrap();
    assert_eq!(root.access_key, "user");
    assert_eq!(root.secret_key.expose(), "from the file");
    assert_eq!(config.server.region, "site");
    assert_eq!(config.server.domains, ["a.example", "b.example"]);
    assert_eq!(config.storage.directories.len(), 3);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("MINIO_BROWSER"));

    let old = environment(&[
        ("MINIO_ACCESS_KEY", "old"),
        ("MINIO_SECRET_KEY", "old secret"),
    ]);
    let config = load(None, &old, flags(":9000")).unwrap();
    assert_eq!(config.root.unwrap().access_key, "old");
}

#[test]
fn a_45_guessable_keys_only_on_loopback() {
    let with = |user: &str, password: &str, address: &str| {
        let variables = [
            ("DRYSTONE_ROOT_USER", user),
            ("DRYSTONE_ROOT_PASSWORD", password),
        ];
        load(None, &environment(&variables), flags(address))
    };
    for address in ["127.0.0.1:9000", "localhost:0", "[::1]:9000"] {
        with("minioadmin", "minioadmin", address).unwrap();
    }
    for address in [
        ":9000",
        "0.0.0.0:9000",
        "[::]:9000",
        "192.168.1.2:9000",
        "host:9000",
    ] {
        assert!(with("minioadmin", "minioadmin", address).is_err());
        assert!(with("samesame", "samesame", address).is_err());
        assert!(with("operator", "ChangeMe", address).is_err());
        with("minioadmin", "a secret of one's own", address).unwrap();
    }
    for address in [":9000", "127.0.0.1:9000"] {
        assert!(with("user", "", address).is_err(), "empty");
        assert!(with("user", "short", address).is_err(), "short");
        assert!(
            with("", "a secret of one's own", address).is_err(),
            "no user"
        );
    }
    let config = load(None, &Environment::default(), flags(":9000")).unwrap();
    assert!(config.root.is_none(), "no defaults: they are generated");
}

#[test]
fn s_59_certificate_and_key_go_together() {
    let pair = "tls_certificate = \"/c.pem\"\ntls_key = \"/k.pem\"\n";
    let with = |lines: &str| with_file(&format!("[server]\naddress = \"h:9000\"\n{lines}"));
    let server = with(pair).unwrap().server;
    assert_eq!(server.tls.unwrap().key, PathBuf::from("/k.pem"));
    assert_eq!(server.plain_address, None);
    let both = format!("{pair}plain_address = \"127.0.0.1:9001\"\n");
    let server = with(&both).unwrap().server;
    assert_eq!(server.plain_address.unwrap().to_string(), "127.0.0.1:9001");
    // Two addresses of one machine.
    with(&format!("{pair}plain_address = \"127.0.0.1:9000\"\n")).unwrap();
    for (lines, told) in [
        ("tls_certificate = \"/c.pem\"\n", "without tls_key"),
        ("tls_key = \"/k.pem\"\n", "without tls_certificate"),
        ("plain_address = \":9001\"\n", "leave plain_address out"),
        (
            &format!("{pair}plain_address = \":9000\"\n"),
            "choose another",
        ),
        (&format!("{pair}plain_address = \"9001\"\n"), "HOST:PORT"),
    ] {
        let error = with(lines).unwrap_err().to_string();
        assert!(error.contains(told), "{lines}: {error}");
    }
    let variables = environment(&[
        ("DRYSTONE_TLS_CERTIFICATE", "/c"),
        ("DRYSTONE_TLS_KEY", "/k"),
        ("DRYSTONE_PLAIN_ADDRESS", ":9002"),
    ]);
    let server = load(None, &variables, flags(":9000")).unwrap().server;
    assert_eq!(server.tls.unwrap().certificate, PathBuf::from("/c"));
    assert_eq!(server.plain_address.unwrap().port, 9002);
}

/// Keys that everybody knows must not be reachable by either address.
#[test]
fn a_45_s_59_guessable_keys_only_where_both_addresses_are_loopback() {
    let with = |address: &str, plain: &str| {
        let variables = environment(&[
            ("DRYSTONE_ROOT_USER", "minioadmin"),
            ("DRYSTONE_ROOT_PASSWORD", "minioadmin"),
            ("DRYSTONE_TLS_CERTIFICATE", "/c"),
            ("DRYSTONE_TLS_KEY", "/k"),
            ("DRYSTONE_PLAIN_ADDRESS", plain),
        ]);
        load(None, &variables, flags(address)).is_ok()
    };
    assert!(with("127.0.0.1:9000", "[::1]:9001"));
    assert!(!with("127.0.0.1:9000", ":9001"));
    assert!(!with(":9000", "127.0.0.1:9001"));
}

#[test]
fn half_a_pair_is_refused() {
    let variables = environment(&[("DRYSTONE_ROOT_USER", "user")]);
    assert!(load(None, &variables, flags(":9000")).is_err());
}

#[test]
fn disks_are_named_once_and_local() {
    let with = |directories: &[&str]| {
        let mut layer = flags(":9000");
        layer.storage.directories = Some(directories.iter().map(|d| (*d).to_owned()).collect());
        load(None, &Environment::default(), layer)
    };
    assert!(with(&["/a", "/a/"]).is_err());
    assert!(with(&["/d{1...4}", "/d3"]).is_err());
    assert!(with(&["http://host{1...4}:9000/d"]).is_err());
    assert!(with(&["/"]).is_err());
    assert!(with(&[""]).is_err());
    let config = with(&["data"]).unwrap();
    assert!(config.storage.directories[0].is_absolute());
    assert!(config.keys_file().to_str().unwrap().ends_with("/data.keys"));
    assert!(
        config
            .state_file()
            .to_str()
            .unwrap()
            .ends_with("/data.state")
    );
    assert!(config.storage.replace_by_mounts);
    let environment = [
        ("DRYSTONE_STATE_DIR".to_owned(), "/var/lib/x".to_owned()),
        ("DRYSTONE_REPLACE_BY_MOUNTS".to_owned(), "false".to_owned()),
    ];
    let environment = environment.into_iter().collect();
    let mut layer = flags(":9000");
    layer.storage.directories = Some(vec!["/data".to_owned()]);
    let config = load(None, &environment, layer).unwrap();
    assert_eq!(config.state_file().to_str(), Some("/var/lib/x/store"));
    assert!(!config.storage.replace_by_mounts);
}

#[test]
fn users_are_distinct_and_agree_on_their_account() {
    let two = |second: &str| {
        let first = "name = \"a\"\naccess_key = \"AAA\"\nsecret_key = \"12345678a\"\n\
                     account = \"111111111111\"\n";
        error_of(&format!("[[users]]\n{first}[[users]]\n{second}"))
    };
    let end = "secret_key = \"12345678b\"\n";
    let error = two(&format!(
        "name=\"b\"\naccess_key=\"AAA\"\naccount=\"222222222222\"\n{end}"
    ));
    assert!(error.contains("AAA is taken"), "{error}");
    let error = two(&format!(
        "name=\"a\"\naccess_key=\"BBB\"\naccount=\"222222222222\"\n{end}"
    ));
    assert!(error.contains("name is empty or taken"), "{error}");
    let error = two(&format!(
        "name=\"b\"\naccess_key=\"BBB\"\naccount=\"111111111111\"\ndisplay_name=\"x\"\n{end}"
    ));
    assert!(error.contains("belong to the account"), "{error}");
    let error = two(&format!(
        "name=\"b\"\naccess_key=\"BBB\"\naccount=\"12\"\n{end}"
    ));
    assert!(error.contains("12 digits"), "{error}");
}

#[test]
fn what_is_malformed_is_refused() {
    for (text, part) in [
        ("[server]\naddress = \"9000\"", "HOST:PORT"),
        ("[server]\naddress = \"::1:9000\"", "HOST:PORT"),
        ("[server]\naddress = \"x:70000\"", "HOST:PORT"),
        ("[server]\nregion = \"a b\"", "region"),
        ("[server]\ndomains = [\"http://x\"]", "domain"),
        ("[storage.classes]\nSTANDARD = \"0+2\"", "STANDARD"),
        ("[storage.classes]\nSTANDARD = \"EC:2\"", "STANDARD"),
        ("[storage.classes]\nstandard = \"1+2\"", "standard"),
    ] {
        let error = error_of(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}
