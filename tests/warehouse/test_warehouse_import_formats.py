"""The other formats: raw and expected side by side, and the public files against the figures they carry themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from importing import AT_NS, FORMATS, GIVEN, fault, one, public, read

from records.measurement import MplsLabel, PingResult, ThroughputResult, TracerouteResult
from warehouse.importers.formats import PARSERS
from warehouse.importers.found import LEFT_OUT, Found, Given, Unfit, normal


def _rtts(record: object) -> list[int | None]:
    """RTT of each packet, us."""
    assert isinstance(record, PingResult)
    return [None if s.rtt_ns is None else round(s.rtt_ns / 1000) for s in record.samples]


def _path(record: object) -> list[tuple[int, str | None, int | None, int, int]]:
    """(TTL, address, RTT in us, probe packets, replies) of each hop."""
    assert isinstance(record, TracerouteResult)
    return [(h.ttl, h.address, None if h.rtt_ns is None else round(h.rtt_ns / 1000), h.probes, h.replies) for h in record.hops]


# fping ---------------------------------------------------------------------------------------------------------------


def test_fping_each_packet_by_host() -> None:
    """Lines of two hosts in turn, with times: what was sent when is the line's time less the RTT."""
    text = (
        "[1700000000.000500] a : [0], 64 bytes, 0.500 ms (0.500 avg, 0% loss)\n"
        "[1700000000.5] b : [0], timed out (NaN avg, 100% loss)\n"
        "[1700000001.001] a : [1], 64 bytes, 1.00 ms (0.750 avg, 0% loss)\n"
        "a : duplicate for [1], 64 bytes, 2.00 ms\n"
        "\na : xmt/rcv/%loss = 2/2/0%, min/avg/max = 0.500/0.750/1.00\n"
    )
    a, b = read("fping", text)
    assert isinstance(a, Found)
    assert isinstance(b, Found)
    assert (_rtts(a.record), _rtts(b.record), a.dst, b.dst) == ([500, 1000], [None], ("a",), ("b",))
    assert isinstance(a.record, PingResult)
    assert [s.sent_at_ns for s in a.record.samples] == [1_700_000_000_000_000_000, 1_700_000_001_000_000_000]
    assert [s.duplicates for s in a.record.samples] == [0, 1]
    assert a.record.payload_bytes == 56
    assert b.record.started_at_ns == AT_NS


def test_fping_as_smokeping_calls_it() -> None:
    """`-C` with `-q`: one line a host, a dash for a lost packet."""
    found = read("fping", "10.77.5.2  : - 0.092\n10.77.5.99 : - -\n")
    assert [_rtts(item.record) for item in found if isinstance(item, Found)] == [[None, 92], [None, None]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h : xmt/rcv/%loss = 10/10/0%, min/avg/max = 0.505/1.09/2.40\n", "summary_only"),
        ("192.0.2.1\n", "no_rtt"),
        ("h is alive\n", "no_rtt"),
        ("   \n! ? !\n", "not_this_format"),
        ("h : [0], 64 bytes, 0.00 ms (0.00 avg, 0% loss)\n", "zero_rtt"),
    ],
)
def test_fping_without_packets(text: str, reason: str) -> None:
    """What has no single packets is not stored."""
    found = [item for item in read("fping", text) if isinstance(item, Unfit)]
    assert found[0].reason == reason


# mtr -----------------------------------------------------------------------------------------------------------------


def test_mtr_json_csv_raw_and_report_of_one_chain() -> None:
    """The same six hops in mtr's four forms; the third silent; the target reached where the form names it."""
    chain = ["10.77.0.2", "10.77.1.2", None, "10.77.3.2", "10.77.4.2", "10.77.5.2"]
    given = Given(at_ns=AT_NS, target="10.77.5.2")
    files = ("mtr_chain_silent_hop.json", "mtr_chain.csv", "mtr_chain_raw.txt", "mtr_chain_report.txt")
    for path in public(*(f"lab-generated/{name}" for name in files)):
        record = one("mtr", path, given).record
        assert isinstance(record, TracerouteResult)
        assert ([h.address for h in record.hops], record.reached, record.protocol) == (chain, True, "icmp"), path
        assert record.hops[2].replies == 0
    (csv_file,) = public("lab-generated/mtr_chain.csv")
    assert _path(one("mtr", csv_file).record)[4] == (5, "10.77.4.2", 110, 10, 6)  # 40 % of 10 lost, best 0.11 ms
    assert one("mtr", csv_file).record.started_at_ns == 1_795_448_668_000_000_000
    (report,) = public("lab-generated/mtr_chain_report.txt")
    assert one("mtr", report, given).record.started_at_ns == 1_795_448_668_000_000_000  # 2026-11-23T15:44:28Z


def test_mtr_does_not_take_another_host_for_the_target() -> None:
    """The last hop that answered is not the target."""
    (path,) = public("lab-generated/mtr_unreachable.json")
    record = one("mtr", path).record
    assert isinstance(record, TracerouteResult)
    assert record.reached is False


def test_mtr_raw_as_globalpings_probe_reads_it() -> None:
    """The probe's own expected JSON: replies, RTTs and addresses of every hop, up to the target."""
    (path,) = public("globalping-probe/mtr-success-raw-helper-final.txt")
    expected = json.loads(path.with_suffix(".json").read_text())["result"]["hops"]
    record = one("mtr", path, Given(at_ns=AT_NS, target="142.250.179.238")).record
    assert isinstance(record, TracerouteResult)
    assert record.reached
    for hop, theirs in zip(record.hops, expected, strict=False):
        timings = [t["rtt"] for t in theirs["timings"]]
        least = None if not timings else round(min(timings) * 1e6)
        assert (hop.address, hop.rtt_ns, hop.replies) == (theirs.get("resolvedAddress"), least, theirs["stats"]["rcv"]), hop


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"report":{"mtr":{"dst":"h"},"hubs":[]}}', "no_hops"),
        ('{"report":{"hubs":[]}}', "bad_field"),
        ('{"report":{"mtr":{"dst":"h"},"hubs":[{"count":1,"host":"a","Loss%":0.0,"Snt":1,"Best":-1}]}}', "negative"),
        ('{"report":{"mtr":{"dst":"h"},', "cut_off"),
        ("x 0 33000\np 0 95 33000\n", "bad_field"),
        ("what is this\n", "not_this_format"),
        ("", "empty"),
    ],
)
def test_mtr_what_cannot_be_stored(text: str, reason: str) -> None:
    """Each has its reason."""
    assert fault("mtr", text) == reason


# iperf3 --------------------------------------------------------------------------------------------------------------


def test_iperf3_json_is_the_receivers_rate() -> None:
    """Bytes and rate are those the file's own receiver states; a receiver that counted none is no rate."""
    for path in public("iperf3-json/*.json", "lab-generated/iperf3_tcp.json", "lab-generated/iperf3_p4_reverse.json"):
        document = json.loads(path.read_text())
        received = document["end"].get("sum_received", {})
        if document.get("error") or not received.get("bytes"):
            assert fault("iperf3", path) in {"no_bytes", "measurement_failed"}, path
            continue
        record = one("iperf3", path).record
        assert isinstance(record, ThroughputResult)
        assert record.transferred_bytes == received["bytes"]
        assert record.throughput_bps == pytest.approx(received["bits_per_second"], rel=1e-3)
        assert record.started_at_ns == document["start"]["timestamp"]["timesecs"] * 10**9
        assert record.direction == ("down" if document["start"]["test_start"]["reverse"] else "up")
        assert record.retransmits == document["end"]["sum_sent"]["retransmits"]


def test_iperf3_text() -> None:
    """The receiver's total, not the sender's; MBytes are of 2^20."""
    text = (
        "Connecting to host h, port 5201\n[  5] local 10.0.0.1 port 4 connected to 192.0.2.7 port 5201\n"
        "[  5]   0.00-1.00   sec  5.00 MBytes  41.9 Mbits/sec  1034   2.36 MBytes       \n"
        "[  5]   0.00-10.00  sec  73.8 MBytes  61.9 Mbits/sec  1681             sender\n"
        "[  5]   0.00-10.32  sec  77.4 MBytes  62.9 Mbits/sec                  receiver\n"
    )
    found = one("iperf3", text)
    record = found.record
    assert isinstance(record, ThroughputResult)
    assert (record.transferred_bytes, record.duration_ns, record.retransmits) == (round(77.4 * 2**20), 10_320_000_000, 1681)
    assert record.throughput_bps == pytest.approx(62.9e6, rel=0.001)
    assert (found.src, found.dst, record.started_at_ns) == (("10.0.0.1",), ("192.0.2.7", "h"), AT_NS)


def test_iperf3_accidents() -> None:
    """Cut short, empty, escapes before it, an interrupted or UDP test: a reason each, never a rate."""
    for path in public("iperf3-dirty/*.txt", "lab-generated/iperf3_udp.json", "lab-generated/iperf3_error.json"):
        text = path.read_text(errors="replace").strip()
        found = read("iperf3", path)
        if text.startswith("{") and text.endswith("}") and '"error"' not in text and "UDP" not in text:
            assert all(isinstance(item, Found) for item in found), path
        else:
            reasons = {item.reason for item in found if isinstance(item, Unfit)}
            assert len(found) == 1 and reasons <= {"cut_off", "not_json", "empty", "not_this_format", "measurement_failed", "not_tcp"}, path  # noqa: PT018
            assert reasons, path


# RIPE Atlas ----------------------------------------------------------------------------------------------------------


def test_atlas_pings_against_the_probes_own_count() -> None:
    """Sent, received, least and largest as the probe counted; from JSON lines and from an array alike."""
    (lines,) = public("ripe-atlas/sagan_ping.jsonl")
    found, same = read("ripe-atlas", lines), read("ripe-atlas", lines.with_suffix(".json"))
    assert [getattr(a, "record", str(a)) for a in found] == [getattr(b, "record", str(b)) for b in same]
    for item, line in zip(found, lines.read_text().splitlines(), strict=True):
        result = json.loads(line)
        if "result" not in result:
            assert isinstance(item, Unfit)
            assert item.reason == "summary_only"
            continue
        assert isinstance(item, Found)
        rtts = [rtt for rtt in _rtts(item.record) if rtt is not None]
        assert (len(_rtts(item.record)), len(rtts)) == (result["sent"], result["rcvd"])
        assert isinstance(item.record, PingResult)
        assert sum(s.duplicates for s in item.record.samples) == result["dup"]
        if rtts:
            assert (min(rtts), max(rtts)) == (round(result["min"] * 1000), round(result["max"] * 1000))
        assert item.src[0] == f"probe:{result['prb_id']}"
        assert item.record.started_at_ns == result["timestamp"] * 10**9


def test_atlas_paths() -> None:
    """Every hop but the last resort's 255 is there, with the least RTT of what its address answered in time."""
    (lines,) = public("ripe-atlas/sagan_traceroute.jsonl")
    failed = 0
    for item, line in zip(read("ripe-atlas", lines), lines.read_text().splitlines(), strict=True):
        result = json.loads(line)
        if any("result" not in hop for hop in result["result"]):
            assert isinstance(item, Unfit)
            assert item.reason == "measurement_failed"
            failed += 1
            continue
        assert isinstance(item, Found)
        packets = {h["hop"]: [p for p in h["result"] if "rtt" in p] for h in result["result"] if h["hop"] < 255}
        path = _path(item.record)
        assert {ttl: replies for ttl, _, _, _, replies in path if ttl in packets} == {ttl: len(some) for ttl, some in packets.items()}
        for ttl, address, rtt, _, _ in path:
            if address is not None:
                assert rtt == round(min(p["rtt"] for p in packets[ttl] if normal(p["from"]) == address or p["from"] == address) * 1000)
    assert failed == 2


def test_atlas_labels_and_late_replies() -> None:
    """The label stack of the reply that is kept; a late reply is of an earlier packet and has no RTT."""
    label = {"obj": [{"class": 1, "type": 1, "mpls": [{"exp": 1, "label": 407904, "s": 1, "ttl": 1}]}]}
    hops = [
        {"hop": 1, "result": [{"from": "10.0.0.1", "rtt": 2.0, "ttl": 64}, {"from": "10.0.0.1", "rtt": 1.0, "ttl": 64, "icmpext": label}]},
        {"hop": 3, "result": [{"late": 1, "from": "10.0.0.1", "size": 28}, {"x": "*"}]},
        {"hop": 255, "result": [{"from": "192.0.2.7", "rtt": 9.0}]},
    ]
    base = {"type": "traceroute", "prb_id": 1, "timestamp": 1_700_000_000, "fw": 5000, "proto": "TCP", "dst_addr": "192.0.2.7"}
    record = one("ripe-atlas", json.dumps({**base, "result": hops})).record
    assert isinstance(record, TracerouteResult)
    assert _path(record) == [(1, "10.0.0.1", 1000, 2, 2), (2, None, None, 1, 0), (3, None, None, 1, 0)]
    assert record.hops[0].mpls == (MplsLabel(label=407904, traffic_class=1, bottom=True, ttl=1),)
    assert (record.reached, record.protocol) == (True, "tcp")


# Globalping ----------------------------------------------------------------------------------------------------------


def test_globalping() -> None:
    """Ping, traceroute and mtr of the API's own reference; DNS and HTTP are of other kinds."""
    (path,) = public("globalping/getPingMeasurementResponse.json")
    found = one("globalping", path)
    assert (_rtts(found.record), found.src, found.dst) == (
        [24200, 24200],
        ("AS61138@Auckland,NZ", "Auckland,NZ"),
        ("151.101.129.229", "cdn.jsdelivr.net"),
    )
    assert found.record.started_at_ns == 1_689_359_152_414_000_000  # 2023-07-14T18:25:52.414Z
    trace = one("globalping", FORMATS / "globalping/getTracerouteMeasurementResponse.json").record
    assert isinstance(trace, TracerouteResult)
    assert (len(trace.hops), trace.reached, _path(trace)[-1]) == (11, True, (11, "104.16.85.20", 733, 2, 2))
    mtr = one("globalping", FORMATS / "globalping/getMtrMeasurementResponse.json").record
    assert _path(mtr)[-1] == (2, "151.101.1.229", 178287, 2, 2)
    for other in ("getHttpMeasurementResponse", "getSimpleDnsMeasurementResponse"):
        assert fault("globalping", FORMATS / f"globalping/{other}.json") == "not_this_format"


def test_globalping_one_failed_probe_costs_no_other() -> None:
    """A probe that failed, one whose losses only the counts tell."""
    stats = {"total": 3, "rcv": 2}
    results: list[dict[str, Any]] = [
        {"probe": {"city": "Oslo", "country": "NO"}, "result": {"status": "failed", "rawOutput": "Private IP ranges are not allowed."}},
        {
            "probe": {"city": "Oslo", "country": "NO"},
            "result": {"status": "finished", "timings": [{"rtt": 1.5}, {"rtt": 2}], "stats": stats},
        },
    ]
    document = {"id": "x", "type": "ping", "createdAt": "2023-07-14T18:25:52Z", "target": "192.0.2.7", "results": results}
    failed, good = read("globalping", json.dumps(document))
    assert isinstance(failed, Unfit)
    assert failed.reason == "measurement_failed"
    assert isinstance(good, Found)
    assert (_rtts(good.record), good.src) == ([1500, 2000, None], ("Oslo,NO",))


def test_the_globalping_probes_own_ping_mocks() -> None:
    """The probe's expected JSON: RTTs and losses of its transcripts, read by the format ping."""
    for path in public("globalping-probe/ping-*-linux.txt"):
        expected = json.loads(path.with_suffix(".json").read_text())["result"] if path.with_suffix(".json").exists() else None
        if expected is None or expected["status"] != "finished":
            continue
        rtts = _rtts(one("ping", path).record)
        assert [rtt for rtt in rtts if rtt is not None] == [round(t["rtt"] * 1000) for t in expected["timings"]], path
        assert (len(rtts), rtts.count(None)) == (expected["stats"]["total"], expected["stats"]["drop"])


# scamper -------------------------------------------------------------------------------------------------------------


def test_scamper_trace_with_gaps() -> None:
    """Hops that answered, and the TTLs between them that did not."""
    (path,) = public("scamper/scamper2/invalid-num-lines")  # only a blank line too many
    found = one("scamper", path)
    hops = _path(found.record)
    assert hops[0] == (1, "192.168.144.1", 70, 1, 1)
    assert hops[-1] == (14, "91.189.88.142", 135610, 1, 1)
    assert all(address is None for _, address, *_ in hops[1:-1])
    assert found.record.started_at_ns == 1_638_999_963_787_829_000


def test_scamper_flows_are_paths_of_their_own() -> None:
    """The six flows that a tracelb tried at every TTL, from TTL 2: of the first it has no RTT."""
    (path,) = public("scamper/scamper1/valid-complex")
    found = [item for item in read("scamper", path) if isinstance(item, Found)]
    records = [item.record for item in found]
    assert [getattr(record, "flow", None) for record in records] == [1, 2, 3, 4, 5, 6]
    assert _path(records[1])[:2] == [(2, "2001:550:3::1ca", 332, 1, 1), (3, "2600:803::79", 18218, 1, 1)]


def test_scamper_broken_files_store_nothing() -> None:
    """Every file that M-Lab broke on purpose: nothing of it is stored, and it says why."""
    harmless = {"invalid-num-lines", "invalid-trace-links"}  # a blank line; no difference to a valid file
    broken = [path for path in public("scamper/*/invalid-*", "mlab/Scamper1/bad*") if path.name not in harmless]
    assert len(broken) >= 19
    for path in broken:
        found = read("scamper", path)
        assert not any(isinstance(item, Found) for item in found), path
        if path.name != "badformat.jsonl":  # its only line is a good one that measures nothing
            assert found, path


def test_scamper_ping() -> None:
    """Responses by sequence number; of other hosts none."""
    responses = [{"from": "192.0.2.7", "seq": 0, "rtt": 1.5, "reply_ttl": 60}, {"from": "192.0.2.8", "seq": 1, "rtt": 9}]
    line = {"type": "ping", "version": "0.4", "method": "icmp-echo", "src": "10.0.0.1", "dst": "192.0.2.7", "ping_sent": 2}
    start = {"sec": 1_700_000_000, "usec": 5}
    assert _rtts(one("scamper", json.dumps({**line, "start": start, "responses": responses})).record) == [1500, None]


# ndt7, perfSONAR, dublin-traceroute, trippy, matrices ------------------------------------------------------------------


def test_ndt7_by_its_definition() -> None:
    """Bytes acknowledged (download) or received (upload) over the elapsed time of the server's last measurement."""
    for path in public("mlab/NDT7Result/*.json"):
        document = json.loads(path.read_text())
        way = "Download" if "Download" in document else "Upload"
        info = document[way]["ServerMeasurements"][-1]["TCPInfo"]
        amount = info["BytesAcked" if way == "Download" else "BytesReceived"]
        record = one("ndt7", path).record
        assert isinstance(record, ThroughputResult)
        assert (record.transferred_bytes, record.duration_ns) == (amount, info["ElapsedTime"] * 1000)
        assert record.throughput_bps == pytest.approx(amount * 8 / (info["ElapsedTime"] / 1e6), abs=1)
        assert (record.direction, record.tcp_min_rtt_ns) == ("down" if way == "Download" else "up", info["MinRTT"] * 1000)
    assert fault("ndt7", FORMATS / "mlab/NDT7Result/badfile.badextension") == "not_json"
    for path in public("mlab/NDT5Result/*.json"):
        assert fault("ndt7", path) == "not_this_format"


def test_perfsonar_bare_and_archived() -> None:
    """rtt, trace and throughput; the hosts and the time where the archiver's document has them; delays of one way are none."""
    rtt = {"succeeded": True, "lost": 1, "roundtrips": [{"seq": 1, "rtt": "PT0.0538S", "ip": "192.0.2.7", "ttl": 54}]}
    archived = {"test": {"type": "rtt", "spec": {"source": "a", "dest": "b"}}, "schedule": {"start": "2026-01-02T03:04:05Z"}, "result": rtt}
    found = one("perfsonar", json.dumps(archived), Given())
    assert (_rtts(found.record), found.src, found.dst) == ([53800, None], ("a",), ("192.0.2.7", "b"))
    assert found.record.started_at_ns == 1_767_323_045_000_000_000
    assert fault("perfsonar", json.dumps(rtt), Given()) == "no_time"
    (esmond,) = public("pscheduler/esmond_01.json")
    record = one("perfsonar", esmond).record
    assert isinstance(record, ThroughputResult)
    assert (record.throughput_bps, record.transferred_bytes, record.duration_ns) == (4_438_908_000, 8_323_072_000, 15_000_215_000)
    assert _rtts(one("perfsonar", FORMATS / "pscheduler/esmond_06.json").record) == [53800, 53800, 53900, 53900, 53800]
    path = _path(one("perfsonar", FORMATS / "pscheduler/pscheduler-test-trace__misc__trace-result.json").record)
    assert (len(path), path[2], path[-1]) == (10, (3, "206.196.177.29", 21400, 1, 1), (10, "207.75.164.248", 22300, 1, 1))
    for name, reason in (("00", "one_way"), ("07", "not_this_format"), ("08", "measurement_failed")):
        assert fault("perfsonar", FORMATS / f"pscheduler/esmond_{name}.json") == reason


def test_dublin_traceroute() -> None:
    """One path a flow; the reference output of its own tests."""
    (path,) = public("dublin-traceroute/want_8.8.8.8_one_path.json")
    found = one("dublin-traceroute", path)
    flow = json.loads(path.read_text())["flows"]["33434"]
    assert _path(found.record) == [(i, p["received"]["ip"]["src"], p["rtt_usec"], 1, 1) for i, p in enumerate(flow, 1)]
    assert (found.src, found.record.started_at_ns) == (("172.16.0.239",), 1_565_903_869_420_662_000)
    (config,) = public("dublin-traceroute/config_*.json")
    assert {item.reason for item in read("dublin-traceroute", config) if isinstance(item, Unfit)} == {"bad_field"}


def test_trippy() -> None:
    """The public hop in a report; its labels, and the TTL before it that nobody answered."""
    (path,) = public("trippy/hop_mpls.json")
    silent = {"ttl": 13, "hosts": [], "extensions": [], "sent": 3, "recv": 0, "best": "0.00"}
    report = {"info": {"target": {"ip": "129.250.3.125", "hostname": "x"}}, "hops": [silent, json.loads(path.read_text())]}
    record = one("trippy", json.dumps(report)).record
    assert isinstance(record, TracerouteResult)
    assert _path(record) == [(13, None, None, 3, 0), (14, "129.250.3.125", 178160, 1, 1)]
    assert record.hops[1].mpls == (MplsLabel(label=91106, traffic_class=0, bottom=True, ttl=1),)
    assert record.reached
    assert fault("trippy", path) == "bad_field"


def test_throughput_matrix() -> None:
    """Rates in either unit, what is not given unknown; each bad row its reason."""
    text = (
        "src,dst,throughput_mbps,duration_s,at,kind\n"
        "a,b,941.5,10,2026-01-02T03:04:05Z,x\n"
        "b,a,100,,,x\na,b,0,,,x\na,b,fast,,,x\na,b,-1,,,x\na,b,,,,x\na,b,1,,yesterday,x\na,b,5,,,other\n"
    )
    found = read("throughput-matrix", text, Given(at_ns=AT_NS, where={"kind": "x"}))
    first, second = (item.record for item in found if isinstance(item, Found))
    assert isinstance(first, ThroughputResult)
    assert (first.throughput_bps, first.transferred_bytes, first.duration_ns) == (941_500_000, None, 10_000_000_000)
    assert second.started_at_ns == AT_NS
    reasons = [item.reason for item in found if isinstance(item, Unfit)]
    assert reasons == ["no_bytes", "bad_number", "negative", "missing_value", "bad_time", LEFT_OUT]
    assert fault("throughput-matrix", text + "a,b\n") == "bad_field"  # a file that breaks off is none of its rows
    assert fault("throughput-matrix", "a,b,c\n1,2,3\n") == "not_this_format"


@pytest.mark.parametrize("name", PARSERS)
def test_any_public_file_is_read_or_refused(name: str) -> None:
    """Every format meets every public file, most of them not its own, and every file cut in the middle: values or reasons, no crash."""
    for path in public("*/*", "*/*/*")[::4]:
        content = path.read_bytes()[:40_000]
        for part in (content, content[: len(content) // 2]):
            assert all(isinstance(item, Found | Unfit) for item in read(name, part, GIVEN))
