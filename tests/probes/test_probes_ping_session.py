"""The session of echo rounds under simulated time: matching, duplicates, late replies, errors, accounting."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from probes.ping.pace import Pacer
from probes.ping.session import EchoSession, Verdict
from probes.ping.timing import Reading

MS = 1_000_000
EPOCH = 1_800_000_000_000_000_000


def at(mono_ns):
    """Both clocks, never stepped."""
    return Reading(mono_ns, EPOCH + mono_ns)


def session(packets_per_s=1_000_000, burst=1000):
    return EchoSession(Pacer(packets_per_s=packets_per_s, burst=burst))


def send_all(echo, now_ns):
    """Hand over whatever is due, as the driver does; gives the probes."""
    out = []
    while (probe := echo.take(now_ns)) is not None:
        probe.before, probe.kernel_ns = at(now_ns), EPOCH + now_ns
        echo.sent_all((probe,))
        out.append(probe)
    return out


def answer(echo, probe, now_ns, peer=None):
    return echo.reply(probe.token, probe.round.peer if peer is None else peer, EPOCH + now_ns, at(now_ns), 60)


def begin(echo, count=3, now_ns=0, peer="192.0.2.1", interval_ns=10 * MS, timeout_ns=100 * MS, first_token=1000):
    tokens = range(first_token, first_token + count)
    return echo.begin(peer, tokens=tokens, interval_ns=interval_ns, timeout_ns=timeout_ns, payload_bytes=56, now_ns=now_ns)


def test_a_round_of_replies():
    """Three packets 10 ms apart, each answered after 7 ms: three samples in order, done with the third."""
    echo = session()
    round_ = begin(echo)
    for sequence in range(3):
        sent_ns = sequence * 10 * MS
        assert echo.next_ns() is not None
        assert echo.next_ns() <= sent_ns
        (probe,) = send_all(echo, sent_ns)
        assert not round_.done
        assert answer(echo, probe, sent_ns + 7 * MS) is Verdict.REPLY
    assert echo.finished() == [round_]
    assert [(s.sequence, s.outcome, s.rtt_ns, s.ts_source, s.reply_ttl, s.sched_lag_ns) for s in round_.samples()] == [
        (n, "reply", 7 * MS, "kernel_txrx", 60, 0) for n in range(3)
    ]
    assert echo.next_ns() is None, "nothing left to wake up for"


def test_a_reply_from_elsewhere_changes_nothing():
    """Right token, wrong source; right source, wrong token; no token: foreign, each of them, and the packet times out."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    assert answer(echo, probe, MS, peer="192.0.2.2") is Verdict.FOREIGN
    assert echo.reply(probe.token + 1, "192.0.2.1", None, at(MS), 60) is Verdict.FOREIGN
    assert echo.reply(None, "192.0.2.1", None, at(MS), 60) is Verdict.FOREIGN
    assert echo.counters.foreign == 3
    echo.expire(100 * MS)
    assert [sample.outcome for sample in round_.samples()] == ["timeout"]


def test_a_guessed_token_of_a_packet_not_sent_yet_is_foreign():
    """A token is worth something only once its packet has left."""
    echo = session()
    begin(echo, count=2)
    send_all(echo, 0)
    assert echo.reply(1001, "192.0.2.1", None, at(MS), 60) is Verdict.FOREIGN


def test_duplicates_and_late_replies_are_counted_apart():
    """Second copy of a reply: duplicate. First copy after the time-out: late. Second copy of that: duplicate."""
    echo = session()
    round_ = begin(echo, count=3, interval_ns=0)
    first, second, _third = send_all(echo, 0)
    assert answer(echo, first, MS) is Verdict.REPLY
    assert answer(echo, first, 2 * MS) is Verdict.DUPLICATE
    echo.expire(100 * MS)
    assert round_.done
    assert answer(echo, second, 101 * MS) is Verdict.LATE
    assert answer(echo, second, 102 * MS) is Verdict.DUPLICATE
    samples = round_.samples()
    assert [(s.outcome, s.duplicates, s.late) for s in samples] == [("reply", 1, False), ("timeout", 1, True), ("timeout", 0, False)]
    assert samples[0].rtt_ns == MS


def test_a_reply_long_after_the_time_out_is_late_while_its_round_runs():
    """Six seconds after the time-out, when the packet is forgotten and the round is not: late, and a second copy is a duplicate."""
    echo = session()
    round_ = begin(echo, count=10, interval_ns=1_000 * MS)
    (first,) = send_all(echo, 0)
    for second in range(1, 7):
        echo.expire(second * 1_000 * MS)
        send_all(echo, second * 1_000 * MS)
    assert echo.remembered < 7, "the first one is forgotten"
    assert answer(echo, first, 6_100 * MS) is Verdict.LATE
    assert answer(echo, first, 6_101 * MS) is Verdict.DUPLICATE
    sample = round_.samples_so_far()[0]
    assert (sample.outcome, sample.late, sample.duplicates, sample.rtt_ns) == ("timeout", True, 1, None)
    assert (echo.counters.late, echo.counters.duplicates) == (1, 1)


def test_replies_out_of_order_find_their_packets():
    """Three in flight, answered last first: each keeps its own RTT."""
    echo = session()
    round_ = begin(echo, count=3, interval_ns=0)
    probes = send_all(echo, 0)
    for delay_ms, probe in enumerate(reversed(probes), start=1):
        answer(echo, probe, delay_ms * MS)
    assert [sample.rtt_ns for sample in round_.samples()] == [3 * MS, 2 * MS, MS]


def test_a_reply_that_waited_for_a_busy_loop_is_in_time():
    """Received by the kernel after 20 ms, read by us after 150 ms with a time-out of 100: a reply of 20 ms."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    assert echo.reply(probe.token, "192.0.2.1", EPOCH + 20 * MS, at(150 * MS), 60) is Verdict.REPLY
    assert round_.samples()[0].rtt_ns == 20 * MS


def test_a_reply_slower_than_the_time_out_is_late_even_before_the_timer():
    """The kernel's stamps say 120 ms; that the timer has not fired yet makes no difference."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    assert echo.reply(probe.token, "192.0.2.1", EPOCH + 120 * MS, at(120 * MS), 60) is Verdict.LATE
    assert [(s.outcome, s.late, s.rtt_ns) for s in round_.samples()] == [("timeout", True, None)]


def test_an_error_is_unreachable_with_who_said_so():
    """An ICMP error that quotes the token settles the packet at once."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    verdict = echo.error(token=probe.token, number=probe.number, peer="192.0.2.1", responder="198.51.100.1", icmp_type=3, icmp_code=1)
    assert verdict is Verdict.ERROR
    (sample,) = round_.samples()
    assert (sample.outcome, sample.icmp_type, sample.icmp_code, sample.responder) == ("unreachable", 3, 1, "198.51.100.1")


def test_a_short_quote_is_matched_by_number_and_destination():
    """Eight octets quoted: the 16-bit number and the quoted destination decide; another destination is foreign."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    quoted = {"token": None, "number": probe.number, "responder": "198.51.100.1", "icmp_type": 3, "icmp_code": 1}
    assert echo.error(peer="192.0.2.9", **quoted) is Verdict.FOREIGN
    assert not round_.done
    assert echo.error(peer="192.0.2.1", **quoted) is Verdict.ERROR


def test_a_reply_overrules_an_error_while_the_round_runs():
    """Errors can be forged or come from a route in change; the target's own reply carries the token."""
    echo = session()
    round_ = begin(echo, count=2, interval_ns=0)
    first, second = send_all(echo, 0)
    echo.error(token=first.token, number=None, peer="192.0.2.1", responder="203.0.113.5", icmp_type=3, icmp_code=1)
    assert answer(echo, first, 5 * MS) is Verdict.REPLY
    answer(echo, second, 5 * MS)
    assert [(s.outcome, s.rtt_ns, s.icmp_type, s.responder) for s in round_.samples()] == [("reply", 5 * MS, None, None)] * 2
    assert (echo.counters.replies, echo.counters.errors) == (2, 0)


def test_a_refused_packet_says_why():
    """The kernel has no route: send_failed with the errno's name, and no RTT."""
    echo = session()
    round_ = begin(echo, count=1)
    probe = echo.take(0)
    echo.failed(probe, at(0), "ENETUNREACH")
    (sample,) = round_.samples()
    assert (sample.outcome, sample.error, sample.rtt_ns, sample.sent_at_ns) == ("send_failed", "ENETUNREACH", None, EPOCH)


def test_lateness_of_the_scheduler_is_recorded():
    """Due at 0, handed over at 25 ms: sched_lag 25 ms, and the RTT knows nothing of it."""
    echo = session()
    round_ = begin(echo, count=1)
    (probe,) = send_all(echo, 25 * MS)
    answer(echo, probe, 26 * MS)
    assert (round_.samples()[0].sched_lag_ns, round_.samples()[0].rtt_ns) == (25 * MS, MS)


def test_a_reflectors_dwell_is_no_part_of_the_rtt():
    """10 ms on the wire and back, of which the far end says it spent 3: 7 ms. A dwell longer than the RTT is a lie."""
    echo = session()
    round_ = begin(echo, count=2, interval_ns=0)
    for probe, dwell_ns in zip(send_all(echo, 0), (3 * MS, 11 * MS), strict=True):
        echo.reply(probe.token, "192.0.2.1", EPOCH + 10 * MS, at(10 * MS), 60, dwell_ns)
    assert [sample.rtt_ns for sample in round_.samples()] == [7 * MS, 10 * MS]


def test_rounds_of_one_target_may_overlap():
    """Two rounds to the same address at once: tokens keep them apart."""
    echo = session()
    one, two = begin(echo, count=1), begin(echo, count=1, first_token=5000)
    for probe in send_all(echo, 0):
        answer(echo, probe, (1 if probe.round is one else 2) * MS)
    assert [round_.samples()[0].rtt_ns for round_ in (one, two)] == [MS, 2 * MS]


def test_a_cancelled_round_sends_no_more():
    """Nobody waits for it: what was planned stays home, and takes nothing of the rate."""
    echo = session()
    round_ = begin(echo, count=3)
    assert len(send_all(echo, 0)) == 1
    echo.cancel(round_)
    assert send_all(echo, 100 * MS) == []


def test_memory_is_bounded():
    """Settled packets are forgotten five seconds after their deadline; a reply then is foreign."""
    echo = session()
    begin(echo, count=1)
    (probe,) = send_all(echo, 0)
    echo.expire(100 * MS)
    assert echo.remembered == 1
    echo.expire(100 * MS + 5_000 * MS)
    assert echo.remembered == 0
    assert answer(echo, probe, 5_200 * MS) is Verdict.FOREIGN


def test_a_reported_round_still_tells_its_answers_from_foreign_ones():
    """Its packets are given back when it is reported. For five seconds more a copy is a duplicate and the lost one's reply late."""
    echo = session()
    round_ = begin(echo, count=2, interval_ns=0)
    first, second = send_all(echo, 0)
    answer(echo, first, MS)
    echo.expire(100 * MS)
    assert echo.finished() == [round_]
    round_.packets.clear()
    assert answer(echo, first, 200 * MS) is Verdict.DUPLICATE
    assert answer(echo, second, 200 * MS) is Verdict.LATE
    assert answer(echo, second, 201 * MS) is Verdict.DUPLICATE
    echo.expire(100 * MS + 5_000 * MS)
    assert answer(echo, first, 5_200 * MS) is Verdict.FOREIGN
    assert answer(echo, second, 5_200 * MS) is Verdict.FOREIGN


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["192.0.2.1", "192.0.2.2"]),
            st.sampled_from([None, -5, 1, 3, 9, 12, 30]),
            st.sampled_from([0, 7, 10, 40, 200]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sets(st.integers(0, 3)),
    st.integers(-1, 1),
)
def test_many_replies_at_once_are_what_each_would_be_alone(happenings, unstamped, step_ms):
    """The quick way for a batch gives the samples and counts of the rules applied one by one: duplicates, strangers, impossible stamps,
    packets without a stamp, late ones, errors before a reply, and a wall clock that is set meanwhile."""
    outcomes = []
    for at_once in (True, False):
        echo = session()
        rounds = [begin(echo, 2, interval_ns=0, timeout_ns=20 * MS), begin(echo, 2, peer="192.0.2.2", interval_ns=0, first_token=1002)]
        probes = send_all(echo, MS)
        for probe in probes:
            probe.kernel_ns = None if probe.token - 1000 in unstamped else probe.kernel_ns
        for token, peer, received_ms, picked_ms, is_error in happenings:
            if is_error:
                echo.error(token=1000 + token, number=None, peer=peer, responder=None, icmp_type=3, icmp_code=1)
            picked_up = Reading(picked_ms * MS, EPOCH + (picked_ms + step_ms) * MS)
            one = (1000 + token, peer, None if received_ms is None else EPOCH + received_ms * MS, 60)
            if at_once:
                echo.replies([one, one], picked_up)
            else:
                for _ in range(2):
                    echo.reply(one[0], one[1], one[2], picked_up, one[3])
        echo.expire(1000 * MS)
        outcomes.append(([round_.samples() for round_ in rounds], echo.counters))
    assert outcomes[0] == outcomes[1]


def test_pacer_spreads_a_burst_and_forgets_old_credit():
    """1,000 packets/s, burst 2: of 5 due at once 2 leave now and the others 1 ms apart; idling earns 2 and no more."""
    pacer = Pacer(packets_per_s=1000, burst=2)
    for item in range(5):
        pacer.plan(0, item)
    left = {}
    for now_ms in range(10):
        while (item := pacer.take(now_ms * MS)) is not None:
            left[item] = now_ms
    assert left == {0: 0, 1: 0, 2: 1, 3: 2, 4: 3}
    for item in range(4):
        pacer.plan(0, item)
    assert [pacer.take(1_000 * MS) for _ in range(4)] == [0, 1, None, None]


events = st.lists(
    st.tuples(
        st.sampled_from(["reply", "dup", "foreign", "error", "short", "expire", "refuse", "send"]), st.integers(0, 9), st.integers(0, 40)
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(st.integers(1, 10), st.integers(0, 20), events)
def test_whatever_happens_every_packet_is_accounted_for_once(count, interval_ms, happenings):
    """Replies, time-outs, errors and refusals of a round add up to its packets; only what was answered has an RTT."""
    echo = session()
    round_ = begin(echo, count=count, interval_ns=interval_ms * MS)
    now_ns, out, answered = 0, [], set()
    for what, which, passes_ms in happenings:
        now_ns += passes_ms * MS
        probe = out[which % len(out)] if out else None
        if what == "send":
            out += send_all(echo, now_ns)
        elif what == "refuse" and (refused := echo.take(now_ns)) is not None:
            echo.failed(refused, at(now_ns), "EPERM")
        elif what == "expire":
            echo.expire(now_ns)
        elif probe is not None and what in {"reply", "dup"}:
            answered.add(probe.sequence)
            answer(echo, probe, now_ns)
        elif probe is not None and what == "foreign":
            assert answer(echo, probe, now_ns, peer="203.0.113.77") is Verdict.FOREIGN
        elif probe is not None and what in {"error", "short"}:
            token = probe.token if what == "error" else None
            echo.error(token=token, number=probe.number, peer="192.0.2.1", responder=None, icmp_type=3, icmp_code=1)
    while not round_.done:
        now_ns += 1000 * MS
        out += send_all(echo, now_ns)
        echo.expire(now_ns)
    samples = round_.samples()
    assert [sample.sequence for sample in samples] == list(range(count))
    assert sum(Counter(sample.outcome for sample in samples).values()) == count
    counters = echo.counters
    assert counters.sent + counters.send_failed == count
    assert {sample.sequence for sample in samples if sample.outcome == "reply"} <= answered
    timeouts = sum(sample.outcome == "timeout" for sample in samples)
    assert counters.replies + counters.errors + counters.send_failed + timeouts == count


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-20, 20), st.sampled_from([1, 2, 3, 5, 7, 11, 13]), st.integers(0, 6)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 9)), max_size=30),
)
def test_packets_leave_in_the_order_they_are_due(rounds, turns):
    """Rounds of several intervals, some begun in the past, taken a few at a time: always the one due first, as a sorted list gives it."""
    pacer = Pacer(packets_per_s=1_000_000_000, burst=1000)
    planned = []
    now_ns = 1000

    def then(item):
        due_ns, interval_ns, left = item
        assert due_ns == min(planned)
        planned.remove(due_ns)
        if not left:
            return None
        planned.append(due_ns + interval_ns)
        return due_ns + interval_ns, (due_ns + interval_ns, interval_ns, left - 1)

    for (offset_ns, interval_ns, left), (wait_ns, at_most) in zip(rounds, [*turns, *[(100, 1000)] * len(rounds)], strict=False):
        planned.append(now_ns + offset_ns)
        pacer.plan(now_ns + offset_ns, (now_ns + offset_ns, interval_ns, left))
        taken = pacer.take_all(now_ns, at_most, then)
        assert all(due_ns <= now_ns for due_ns, *_ in taken)
        assert len(taken) == at_most or all(due_ns > now_ns for due_ns in planned)
        assert len(pacer) == len(planned)
        now_ns += wait_ns
    pacer.take_all(now_ns + 10_000, 1000, then)
    assert not planned
    assert pacer.next_ns() is None
