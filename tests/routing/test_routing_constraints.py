"""Constraints: each refuses by itself, an answer never crosses a mask, what is infeasible names the rule and a way out that works."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload

from records.errors import UserError
from records.residency import ResidencyRule
from records.units import MS
from routing.answer import to_json
from routing.constraints import Memory
from routing.planner import Planner
from routing.request import Request


def placed(name, country, lat=0.0, lon=0.0, **more):
    return replace(site(name, lat, lon, **more), country=country)


SITES = {
    s.id: s
    for s in (
        placed("fra", "DE"),
        placed("par", "FR", 0, 5),
        placed("zrh", "CH", 0, 2),
        placed("aws:us-east-1", "US", 0, 60),
        placed("gcp:europe-west9", "FR", 0, 5),
        placed("metro:berlin", "DE", 0, 1, kind="metro"),
        placed("metro:boston", "US", 0, 59, kind="metro"),
    )
}
LINKS = [
    link("fra", "aws:us-east-1", 80, age_s=100.0),
    link("fra", "par", 30, age_s=5000.0),
    link("fra", "zrh", 5, age_s=10.0),
    link("zrh", "par", 5, age_s=10.0),
    link("fra", "gcp:europe-west9", 60, age_s=10.0),
    link("metro:berlin", "fra", 10, age_s=10.0),
    link("metro:berlin", "zrh", 2, age_s=10.0),
    link("metro:berlin", "par", 90, age_s=10.0),
]
POOLS = [pool("aws:us-east-1", usd_per_hour=3.6), pool("par", usd_per_hour=36.0), pool("gcp:europe-west9", usd_per_hour=7.2)]
EU = frozenset({"DE", "FR"})


def rule(name="eu", applies_to=EU, process=EU, store=EU, plaintext=EU, ciphertext=None):
    return ResidencyRule(
        id=name,
        title=f"the law {name}",
        jurisdiction="EU",
        data_class="personal",
        applies_to=frozenset(applies_to),
        process=process,
        store=store,
        transit_plaintext=plaintext,
        transit_ciphertext=ciphertext,
        conditions="",
        in_force_from="2018-05-25",
        variant_of=None,
        source="test",
        as_of="2025",
        note="",
    )


def ask(planner=None, **more):
    more.setdefault("source", "fra")
    more.setdefault("workload", workload())
    more.setdefault("connection", "warm")
    return (planner or Planner(LINKS, SITES, POOLS, egress=lambda *_: 0.0)).plan(Request(**more))


def test_processing_is_refused_where_the_rule_does_not_allow_it():
    """Without a rule 10.5 ms to par over zrh wins and the cloud in the US is among the routes; with it, it is not."""
    free = ask()
    assert free.routes[0].sites == ("fra", "zrh", "par")
    assert "aws:us-east-1" in {r.sites[-1] for r in free.routes}
    assert {r.sites[-1] for r in ask(residency=(rule(),)).routes} == {"par", "gcp:europe-west9"}


@pytest.mark.parametrize(
    ("more", "mode", "via"),
    [
        # A relay that forwards sees ciphertext, which the rule lets pass anywhere.
        ({}, "forward", ("fra", "zrh", "par")),
        # One that ends TLS sees plaintext, which must stay in the EU: Zurich is out.
        ({}, "terminate", ("fra", "par")),
        # A tenant that denies ciphertext too loses the relay even so.
        ({"ciphertext": EU}, "forward", ("fra", "par")),
    ],
)
def test_transit_is_judged_by_what_the_relay_sees(more, mode, via):
    """zrh is in CH, outside the rule's countries."""
    assert ask(residency=(rule(**more),), relay_mode=mode, destination="par", k=1).routes[0].sites == via


def test_a_metro_enters_where_its_plaintext_may_be():
    """An ingress PoP ends TLS: Berlin may not enter at Zurich although it is nearer."""
    assert ask(source="metro:berlin", destination="par", k=1).routes[0].sites == ("metro:berlin", "zrh", "par")
    found = ask(source="metro:berlin", destination="par", residency=(rule(),), k=1).routes[0].sites
    assert found == ("metro:berlin", "fra", "zrh", "par")


def test_a_rule_holds_for_the_people_it_protects():
    """Boston's data are not under it, unless the request says whose data it is; an unknown country is under every rule."""
    links = [*LINKS, link("metro:boston", "fra", 80), link("metro:boston", "aws:us-east-1", 3)]
    planner = Planner(links, SITES, POOLS)
    assert ask(planner, source="metro:boston", residency=(rule(),)).routes[0].sites[-1] == "aws:us-east-1"
    assert ask(planner, source="metro:boston", residency=(rule(),), subject_country="DE").routes[0].sites[-1] == "par"
    nowhere = Planner(links, SITES | {"metro:boston": replace(SITES["metro:boston"], country=None)}, POOLS)
    assert ask(nowhere, source="metro:boston", residency=(rule(),)).routes[0].sites[-1] == "par"


def test_the_price_of_a_rule_is_the_difference_to_the_answer_without_it():
    """Only the US serves cheaply: with the rule Paris, 80 - 10.5 ms sooner, at ten times the hourly price."""
    answer = ask(Planner(LINKS, SITES, POOLS[:2], egress=lambda *_: 0.0), objective="cost", residency=(rule(),))
    (price,) = answer.rule_prices
    # 20 ms of prefill and 100 of decode at batch 1: 1000 x 0.12 s x 1 or 10 USD / 1000 s = 0.12 or 1.2 USD.
    assert (price.rule, price.usd_per_1k) == ("residency:eu", pytest.approx(1.2 - 0.12))
    assert price.price_ns / MS == pytest.approx(10.5 - 80)
    assert to_json(answer)["rule_prices"][0]["without"] == ["fra", "aws:us-east-1"]
    assert ask(residency=(rule(),)).rule_prices[0].price_ns == 0


def test_contradicting_rules_name_every_one_that_binds_and_a_way_out():
    """Two laws that leave no common country: each binds, and without either there is a route."""
    us = rule("us", process=frozenset({"US"}), store=frozenset({"US"}), plaintext=frozenset({"US", "DE"}))
    answer = ask(residency=(rule(), us))
    assert [b.rule for b in answer.infeasible.binding] == ["residency:eu", "residency:us"]
    assert "forbids processing or storing in US" in answer.infeasible.binding[0].text
    gives = {r.rule: r.gives_ms for r in answer.infeasible.relax}
    assert gives["residency:us"] == pytest.approx(10.5 + 20)
    assert gives["residency:eu"] == pytest.approx(80 + 20)
    # Without the EU's rule the US serves for a tenth of the price: that is the cheapest way out.
    assert answer.infeasible.relax[answer.infeasible.cheapest].rule == "residency:eu"


def test_two_rules_that_only_fall_together_are_named_together():
    """No single rule's absence helps: a budget nobody keeps and a law nobody keeps."""
    nowhere = rule(process=frozenset({"JP"}), store=frozenset({"JP"}))
    answer = ask(residency=(nowhere,), budget_ms=1.0)
    assert {b.rule for b in answer.infeasible.binding} == {"residency:eu", "budget_ms"}
    assert answer.infeasible.relax[0].gives_ms == pytest.approx(30.5)


def test_a_budget_in_usd():
    """0.12, 0.24 and 1.2 USD per 1,000: 0.3 leaves two pools, 0.1 none, and 0.12 is what it takes; unknown costs keep no budget."""
    assert {r.pool.site for r in ask(budget_usd_per_1k=0.3).routes} == {"aws:us-east-1", "gcp:europe-west9"}
    answer = ask(budget_usd_per_1k=0.1)
    assert (answer.infeasible.binding[0].rule, answer.infeasible.relax[-1].to) == ("budget_usd_per_1k", 0.12)
    assert ask(budget_usd_per_1k=answer.infeasible.relax[-1].to).routes
    unpriced = Planner(LINKS, SITES, [pool("par", usd_per_hour=None)])
    assert ask(unpriced, budget_usd_per_1k=1e9).infeasible is not None


def test_availability_is_the_product_over_the_sites_and_unknown_keeps_nothing():
    """0.999 for PoPs, 0.9999 for AWS: fra -> aws 0.9989001, fra -> zrh -> par 0.997002999."""
    planner = Planner(LINKS, SITES, POOLS, availability={"pop": 0.999, "aws": 0.9999})
    free = ask(planner)
    assert free.routes[0].availability == pytest.approx(0.999**3)
    strict = ask(planner, min_availability=0.9985)
    assert {r.sites for r in strict.routes} == {("fra", "aws:us-east-1")}
    assert strict.routes[0].availability == pytest.approx(0.999 * 0.9999)
    none = ask(planner, min_availability=0.99999)
    assert none.infeasible.binding[0].best == pytest.approx(0.999 * 0.9999)
    assert ask(planner, min_availability=none.infeasible.relax[-1].to).routes
    assert ask(min_availability=0.5).infeasible is not None


def test_old_evidence_is_refused_link_by_link():
    """The direct way to Paris is 5,000 s old, over Zurich 10 s."""
    assert ask(destination="par", relays=0, max_evidence_age_s=1000.0).infeasible.binding[0].rule == "max_evidence_age_s"
    assert ask(destination="par", max_evidence_age_s=1000.0, k=1).routes[0].sites == ("fra", "zrh", "par")


def test_a_model_that_does_not_fit_never_serves():
    """16 GB of weights and 30 of keys and values: par's 24 GB are too little; where no pool has enough the answer says so."""
    memory = {"par": Memory(46.0, 24.0), "aws:us-east-1": Memory(46.0, 80.0)}
    planner = Planner(LINKS, SITES, POOLS, memory=lambda served, _w: memory.get(served.site))
    assert {r.sites[-1] for r in ask(planner).routes} == {"aws:us-east-1", "gcp:europe-west9"}
    only = Planner(LINKS, SITES, [pool("par")], memory=lambda served, _w: memory.get(served.site))
    (binding,) = ask(only).infeasible.binding
    assert (binding.rule, binding.limit, binding.best) == ("memory", 46.0, 24.0)


def test_a_cap_on_utilisation_refuses_pools_that_are_busier():
    """190 ms a slot at batch 8 is 42.1 requests/s: at 21 half is taken; a cap of 0.4 refuses, 0.6 does not."""
    assert ask(arrival_rps=21.0, max_utilisation=0.6).routes
    answer = ask(arrival_rps=21.0, max_utilisation=0.4)
    assert answer.infeasible.binding[0].rule == "max_utilisation"
    assert ask(arrival_rps=21.0, max_utilisation=answer.infeasible.relax[-1].to).routes


def test_providers_are_spread():
    """Three providers can serve (our PoPs are one): one route of each; four cannot."""
    answer = ask(min_providers=3, k=1)
    assert {SITES[r.sites[-1]].provider for r in answer.routes} == {None, "aws", "gcp"}
    short = ask(min_providers=4)
    assert (short.infeasible.binding[0].rule, short.infeasible.relax[0].to) == ("min_providers", 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget_usd_per_1k": 0.0},
        {"max_utilisation": 0.0},
        {"max_utilisation": 1.5},
        {"min_availability": 2.0},
        {"max_evidence_age_s": -1.0},
        {"min_providers": 0},
        {"onward": "telepathy"},
        {"relay_mode": "drop"},
        {"share_bps": float("nan")},
    ],
)
def test_values_out_of_range_are_the_users_mistake(wrong):
    """One clear error each."""
    with pytest.raises(UserError):
        Request(source="fra", workload=workload(), **wrong)


COUNTRIES = ["DE", "FR", "CH", "US"]
MASKS = st.one_of(st.none(), st.sets(st.sampled_from(COUNTRIES)).map(frozenset))


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, MASKS, MASKS, st.sampled_from(["forward", "terminate"]), st.sampled_from(["fra", "metro:berlin"]))
def test_no_part_of_any_answer_crosses_a_mask_and_tightening_never_improves(process, store, plaintext, ciphertext, mode, source):
    """Serving sites, relays and ingress of every route and of the backup lie where the rule allows what they do."""
    law = rule("r", COUNTRIES, process, store, plaintext, ciphertext)
    answer = ask(source=source, residency=(law,), relay_mode=mode, k=9)

    def allowed(mask, name):
        return mask is None or SITES[name].country in mask

    for route in (*answer.routes, *((answer.backup,) if answer.backup else ())):
        assert allowed(process, route.sites[-1])
        assert allowed(store, route.sites[-1])
        ingress = 1 if source.startswith("metro") and len(route.sites) > 2 else 0
        for relay in route.sites[1 + ingress : -1]:
            assert allowed(plaintext if mode == "terminate" else ciphertext, relay)
        if ingress:
            assert allowed(plaintext, route.sites[1])
    free = ask(source=source, relay_mode=mode, k=9)
    if answer.routes:
        assert answer.routes[0].ttft.p50_ns >= free.routes[0].ttft.p50_ns
