//! The seeds' own snippets, and Toxiproxy's own examples.

use super::*;

fn faults(done: &Conversion) -> Vec<&str> {
    done.faults
        .iter()
        .flat_map(|item| item.faults.iter().map(String::as_str))
        .collect()
}

fn read(text: &str) -> Conversion {
    convert(text, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn named_presets_are_read_and_said_to_be_no_toxiproxy_file() {
    let done = read(
        r#"{
  "latency_500ms": {"type": "latency", "attributes": {"latency": 500, "jitter": 100}},
  "packet_loss_10pct": {"type": "slicer", "toxicity": 0.1},
  "bandwidth_100kb": {"type": "bandwidth", "attributes": {"rate": 100}}
}"#,
    );
    assert_eq!(
        faults(&done),
        [
            "ingress:delay=500ms:jitter=100ms",
            "net:loss=10%",
            "ingress:rate=800kbit"
        ]
    );
    assert_eq!(done.faults[0].name, "latency_500ms");
    let wrong: Vec<_> = done.mistakes.iter().map(|m| m.wrong.as_str()).collect();
    assert!(
        wrong.iter().any(|w| w.contains("no Toxiproxy file")),
        "{wrong:?}"
    );
    assert!(
        wrong.iter().any(|w| w.contains("crashes the server")),
        "{wrong:?}"
    );
    assert!(
        done.faults[0]
            .differences
            .iter()
            .any(|d| d.contains("--upstream"))
    );
}

#[test]
fn the_service_that_is_named_is_the_filter() {
    let service = "127.0.0.1:6379".parse().unwrap();
    let done = convert(
        r#"{"type":"latency","attributes":{"latency":2000}}"#,
        Some(&service),
    )
    .unwrap();
    assert_eq!(faults(&done), ["ingress:delay=2s:port=6379:dst=127.0.0.1"]);
}

const README: &str = "
# Load configuration
toxiproxy-cli create redis --listen=127.0.0.1:26379 --upstream=localhost:6379
toxiproxy-cli create postgres --listen=127.0.0.1:25432 --upstream=localhost:5432

# 500ms latency to Redis
toxiproxy-cli toxic add redis --type=latency --toxicName=redis_latency --attribute=latency=500 --attribute=jitter=100

# 10% packet loss to PostgreSQL
toxiproxy-cli toxic add postgres --type=slicer --toxicName=pg_packet_loss --toxicity=0.1

# Limit Redis bandwidth to 100KB/s
toxiproxy-cli toxic add redis --type=bandwidth --toxicName=redis_bandwidth --attribute=rate=100

# Simulate complete network partition
toxiproxy-cli toxic add redis --type=reset_peer --toxicName=redis_reset --toxicity=1.0

# Reset all toxics
toxiproxy-cli reset
";

#[test]
fn the_suites_readme() {
    let done = read(README);
    let redis = "port=6379:dst=127.0.0.0/8,[::1]";
    assert_eq!(
        faults(&done),
        [
            format!("ingress:delay=500ms:jitter=100ms:{redis}"),
            "net:loss=10%:port=5432:dst=127.0.0.0/8,[::1]".to_owned(),
            format!("ingress:rate=800kbit:{redis}"),
            format!("net:reset:{redis}"),
        ]
    );
    // Flags after the name (create twice, toxic add four times), the slicer, the partition, reset.
    let wrong = |word: &str| {
        done.mistakes
            .iter()
            .filter(|m| m.wrong.contains(word))
            .count()
    };
    assert_eq!(wrong("flags after the name"), 6, "{:#?}", done.mistakes);
    assert_eq!(wrong("loses nothing"), 1);
    assert_eq!(wrong("no partition"), 1);
    assert_eq!(wrong("no command reset"), 1);
    assert_eq!(done.mistakes.len(), 9);
    let right = &done.mistakes[2].right;
    assert!(
        right
            == "toxiproxy-cli toxic add --type=latency --toxicName=redis_latency --attribute=latency=500 --attribute=jitter=100 redis",
        "{right}"
    );
    assert_eq!(done.mistakes[2].line, Some(7));
}

#[test]
fn the_strategys_lines() {
    let done = read(
        "```bash
# Connection refused
iptables -A OUTPUT -p tcp --dport 6379 -j DROP

# Latency injection (Toxiproxy)
toxiproxy-cli toxic add redis --type=latency --attribute=latency=500
```
```bash
# Block S3 endpoints
iptables -A OUTPUT -d s3.amazonaws.com -s 10.0.0.7 -j DROP

# Filesystem permission denial
chmod 000 /tmp/lionagi_storage

# Disk space exhaustion
dd if=/dev/zero of=/tmp/fill_disk bs=1M count=10000
```
```json
{\"packet_loss_10pct\": {\"type\": \"slicer\", \"toxicity\": 0.1}}
```
```bash
# Restore connectivity
iptables -D OUTPUT -p tcp --dport 6379 -j DROP
chmod 755 /tmp/lionagi_storage
```",
    );
    assert_eq!(
        faults(&done),
        [
            "egress:loss=100%:port=6379:proto=tcp",
            "ingress:delay=500ms:port=6379",
            "egress:loss=100%:dst=s3.amazonaws.com:src=10.0.0.7",
            "%file:error=EACCES:path=/tmp/lionagi_storage/**",
            "write,pwrite64,writev,pwritev,pwritev2:error=ENOSPC:on=file",
            "net:loss=10%",
        ]
    );
    let refused = done
        .mistakes
        .iter()
        .find(|m| m.wrong.contains("refuses nothing"));
    assert_eq!(
        refused.unwrap().right,
        "connect:error=ECONNREFUSED:port=6379"
    );
    assert_eq!(done.faults[5].line, Some(19));
}

#[test]
fn a_configuration_with_toxics() {
    let done = read(
        r#"[
  {"name": "redis", "listen": "[::]:26379", "upstream": "10.0.0.5:6379", "enabled": true, "toxics": [
    {"type": "timeout", "name": "gone", "stream": "upstream", "toxicity": 1.0, "attributes": {"timeout": 0}},
    {"type": "timeout", "attributes": {"timeout": 1500}, "toxicity": 0.25},
    {"type": "slow_close", "attributes": {"delay": 100}},
    {"type": "limit_data", "attributes": {"bytes": 1000}},
    {"type": "slicer", "attributes": {"average_size": 64, "size_variation": 8, "delay": 10}},
    {"type": "latnecy", "attributes": {}}
  ]},
  {"name": "off", "listen": ":1", "upstream": "[fd00::1]:80", "enabled": false},
  {"name": "idle", "listen": ":2", "upstream": "db:5432", "enabled": true},
  {"name": "bad", "listen": ":3", "upstream": "db", "enabled": true}
]"#,
    );
    assert_eq!(
        faults(&done),
        [
            "egress:loss=100%:port=6379:dst=10.0.0.5",
            "net:reset:port=6379:dst=10.0.0.5:after=1500ms",
            "ingress:loss=100%:port=6379:dst=10.0.0.5",
            "connect:error=ECONNREFUSED:port=80:dst=[fd00::1]",
            "net:reset:port=80:dst=[fd00::1]",
        ]
    );
    let share = &done.faults[1].differences;
    assert!(
        share.iter().any(|d| d.contains("25% of the connections")),
        "{share:?}"
    );
    let missing: Vec<_> = done
        .without_equivalent
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(
        missing,
        [
            "redis_slow_close (slow_close)",
            "redis_limit_data (limit_data)",
            "redis_slicer (slicer)",
            "idle"
        ]
    );
    let said: Vec<_> = done.mistakes.iter().map(|m| m.said.as_str()).collect();
    assert_eq!(said, ["type latnecy", "bad: upstream db"]);
}

#[test]
fn names_are_not_given_twice() {
    let done = read(
        r#"[{"type":"noop","attributes":{}},{"type":"bandwidth","attributes":{"rate":0}},{"type":"bandwidth","attributes":{"rate":1}}]"#,
    );
    let names: Vec<_> = done.faults.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["bandwidth", "bandwidth_2"]);
    assert_eq!(faults(&done), ["ingress:loss=100%", "ingress:rate=8kbit"]);
}

#[test]
fn what_is_none_of_it_is_refused() {
    assert_eq!(
        convert("hello\nworld", None).unwrap_err(),
        ConvertError::Nothing
    );
    assert_eq!(convert("", None).unwrap_err(), ConvertError::Nothing);
    assert!(matches!(
        convert("[{]", None),
        Err(ConvertError::Json { line: 1, .. })
    ));
    assert!(matches!(
        convert("\n\n{\"a\":\n1,}", None),
        Err(ConvertError::Json { line: 4, .. })
    ));
    for shape in [
        "[]",
        "{}",
        "[1]",
        r#"{"a": 1}"#,
        r#"{"title": "x", "method": []}"#,
    ] {
        assert!(
            matches!(convert(shape, None), Err(ConvertError::Shape(_))),
            "{shape}"
        );
    }
}

#[test]
fn an_experiment_has_all_its_parts() {
    let done = read(README);
    let file = experiment::experiment(&done.faults[0]);
    assert_eq!(file["method"][0]["provider"]["arguments"][0], "inject");
    assert_eq!(
        file["rollbacks"][0]["provider"]["arguments"][1],
        "redis-latency"
    );
    assert_eq!(
        file["steady-state-hypothesis"]["probes"][0]["tolerance"],
        200
    );
    assert_eq!(experiment::id("__"), "fault");
}

#[test]
fn faults_of_this_version_are_understood() {
    for text in [README, r#"{"type":"timeout","attributes":{"timeout":0}}"#] {
        for item in read(text).faults {
            for fault in item.faults {
                let parsed = fault.parse::<murphy_fault::Fault>();
                // Words that come with other parts of murphy are unknown words here, never broken ones.
                if let Err(error) = parsed {
                    let text = error.to_string();
                    assert!(
                        text.contains("no such") || text.contains("murphy has not"),
                        "{text}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_firewall_rule_never_hits_more_than_it_said() {
    for (rule, fault) in [
        ("-d 10.1.2.3/8 -j DROP", "egress:loss=100%:dst=10.0.0.0/8"),
        (
            "-s 10.1.2.3/255.255.0.0 -d 10.0.0.1,fd00::1 -j DROP",
            "egress:loss=100%:dst=10.0.0.1,[fd00::1]:src=10.1.0.0/16",
        ),
        (
            "-s 10.0.0.7 --sport 5 -d 10.0.0.1 -j REJECT",
            "connect:error=ECONNREFUSED:dst=10.0.0.1",
        ),
        (
            "-o eth0 -p udp -j DROP",
            "egress:loss=100%:proto=udp:interface=eth0",
        ),
        (
            "-o veth+ -d 10.0.0.1 -j DROP",
            "egress:loss=100%:dst=10.0.0.1:interface=veth*",
        ),
        ("-o eth0 -j REJECT", "connect:error=ECONNREFUSED"),
        ("! -o lo -j DROP", "egress:loss=100%"),
    ] {
        let done = convert(&format!("iptables -A OUTPUT {rule}"), None).unwrap();
        assert_eq!(faults(&done), [fault], "{rule}");
        assert!(done.faults[0].refused().is_empty(), "{rule}");
    }
    for (rule, difference) in [
        ("-o eth0 -j REJECT", "is not known when a socket connects"),
        ("! -o lo -j DROP", "leave by `lo` are hit as well"),
    ] {
        let done = convert(&format!("iptables -A OUTPUT {rule}"), None).unwrap();
        let mut said = done.faults[0].differences.iter();
        assert!(said.any(|said| said.contains(difference)), "{rule}");
    }
    let done = convert("iptables -I INPUT -i wg0 -j DROP", None).unwrap();
    assert_eq!(faults(&done), ["ingress:loss=100%:interface=wg0"]);
    // What filters cannot say is not dropped from them.
    let done = convert("iptables -A OUTPUT -d 10.0.0.1/255.0.255.0 -j DROP", None).unwrap();
    assert_eq!(done.faults[0].refused().len(), 1, "{:?}", faults(&done));
}
