"""The loss of a site for many requests: what routing.scenario says of each, found without planning what the loss does not touch."""

from __future__ import annotations

import fleet_kit as kit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import grid_links, grid_sites, pool, workload

from records.errors import UnknownSite
from routing.request import Request
from routing.scenario import FailSite, Scenario, what_ifs
from routing.served import Failure, Served, Serving
from routing.world import World


def told(answer):
    """What an answer puts first."""
    if answer is None or not answer.routes:
        return None
    return Served(answer.routes[0].sites, answer.routes[0].ttft.p50_ns)


def equal(world, site, requests):
    """Every effect is that of the whole answers before and after."""
    failure = Failure(site, Serving(world))
    found = [failure.effect(request) for request in requests]
    whole = what_ifs(Scenario(name="x", edits=(FailSite(site),)), world, requests)
    for one, other in zip(found, whole, strict=True):
        assert (one.before, one.after, one.rehome) == (told(other.before), told(other.after), other.rehome)
        assert one.delta_ns == (other.delta.ttft_p50_ns if other.delta else None)
    return found


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=15, deadline=None)
def test_effects_are_those_of_whole_answers(seed, data):
    """Random worlds, any site, cold and warm connections."""
    world = kit.random_world(seed)
    site = data.draw(st.sampled_from(sorted(world.sites)))
    sources = sorted(name for name, place in world.sites.items() if place.kind == "pop")
    kind = data.draw(st.sampled_from(["cold", "warm"]))
    equal(world, site, [Request(source=source, workload=world.workload, connection=kind) for source in sources])


def test_on_the_public_grid_only_what_touched_the_site_is_changed():
    """A busy serving region fails: who was served there moves, who was not keeps what it had."""
    sites, links = grid_sites(), grid_links(premium=True)[0]
    names = sorted({link.src for link in links} & sites.keys())
    pools = [pool(name) for name in names[::9]]
    requests = [Request(source=name, workload=workload()) for name in names[::5]]
    found = equal(World.of(sites, links, pools), names[9], requests)
    assert {one.state for one in found} >= {"unchanged", "moved"}
    assert all(one.after == one.before for one in found if one.before and names[9] not in one.before.sites)


def test_with_no_pool_left_requests_are_lost():
    """One pool, and its site fails: lost, without a difference; so are the users of the only PoP."""
    world = World.of(kit.SITES, kit.LINKS, (pool("d"),))
    (one,) = equal(world, "d", [Request(source="a", workload=workload())])
    assert (one.state, one.after, one.delta_ns) == ("lost", None, None)


def test_a_site_that_nobody_knows_cannot_fail():
    """UnknownSite."""
    with pytest.raises(UnknownSite):
        Failure("mars", Serving(World.of(kit.SITES, kit.LINKS, ())))
