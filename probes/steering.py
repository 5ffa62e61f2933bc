"""Which configuration an agent runs: its own file, and on top of it the newest good one that the collector handed on.

Whatever is wrong with a pushed configuration (signature, addressee, age, text, what this PoP allows), the running one goes on, and the
agent's next status says what was refused and why. The last good one is on disk and holds again after a restart. Where the own file
no longer lets it hold, or it is damaged, the own file alone does; none that is older is taken all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from probes.client import CollectorClient
from probes.config import parse_config, read_text
from probes.pushed import PushedFile, verified
from probes.settings import AgentConfig
from records.errors import ConfigError, IsochroneError, OutsideError
from records.pushed import Pushed
from records.texts import one_line

__all__ = ["CONFIG_PATH", "Steering", "pinned_key"]

log = logging.getLogger("isochrone.agent")

#: Where an agent asks for its configuration.
CONFIG_PATH = "/api/v1/agents/{agent}/config"
_MOST_REFUSED_CHARACTERS = 500
#: A configuration that could not be had is asked for again after this long, doubled each time up to the interval.
_AGAIN_FIRST_S = 1.0


def pinned_key(config: AgentConfig) -> str | None:
    """The key that pushed configurations are signed with; None: none was pinned, and none are taken. Raises ConfigError."""
    path = config.collector.pinned_key_file
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if config.collector.config_key_file is not None:
            raise ConfigError(f"collector.config_key_file {path} is not there") from None
        return None
    except OSError as error:
        raise ConfigError(f"collector.config_key_file {path} cannot be read: {error.strerror}") from None


class Steering:
    """The configuration of one life of an agent.

    own      the agent's own file, checked
    refused  what was refused last, and why, for the status; None: nothing since the last good one
    """

    def __init__(self, own: AgentConfig) -> None:
        self.refused: str | None = None
        self._path = own.path
        self._text: str | None = None
        with contextlib.suppress(ConfigError):  # a configuration that is in no file
            self._text = read_text(own.path)
        self._kept = PushedFile(own.agent.spool_dir)
        self._newest = 0
        self._refused_generation: int | None = None
        self._etag = ""

    def resume(self, own: AgentConfig) -> AgentConfig:
        """At the start: the own file as it was read, with the last good pushed configuration on top."""
        with contextlib.suppress(ConfigError):
            key = pinned_key(own)
            if key is not None:
                self._recall(key)
                if self._kept.read() is not None:
                    return self.load()
        return own

    def _recall(self, key: str, kept: int = 0) -> None:
        """How new the newest was that this agent took, by a file of its own; `kept`, by the configuration, where that knows less."""
        noted = 0
        try:
            noted = self._kept.generation(key)
        except ConfigError as error:
            log.error("%s; how new it was is known from the configuration that was kept, if at all", error)  # noqa: TRY400  no fault of ours
        if noted < kept:  # damaged, or kept by a version that had no such file
            try:
                self._kept.remember(kept, key)
            except OutsideError as error:
                log.error("%s; it is tried again at the next start", error)  # noqa: TRY400  no fault of ours
        self._newest = max(self._newest, noted, kept)

    def load(self) -> AgentConfig:
        """Read the own file again, with the last good pushed configuration on top. Raises ConfigError for the own file."""
        text = read_text(self._path)
        own = parse_config(text, self._path)
        self._text, self._etag, self._refused_generation = text, "", None
        try:
            key, document = pinned_key(own), self._kept.read()
            if key is None or document is None:
                return own
            pushed = verified(document, key, agent=own.agent.id, site=own.agent.site)
            self._recall(key, pushed.generation)
            config = parse_config(text, self._path, pushed)
        except ConfigError as error:
            self._refuse(f"the configuration that was kept: {error}; {self._path} alone holds")
            return own
        self.refused = None
        return config

    async def run(
        self, now: Callable[[], AgentConfig], client: Callable[[], CollectorClient], change: Callable[[AgentConfig], Awaitable[None]]
    ) -> None:
        """Ask for another configuration now and then, until cancelled.

        now     the configuration that runs
        change  goes on with another one, whole or not at all; raises ConfigError or NotPermitted
        """
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            interval_s = now().collector.config_interval_s
            try:
                key = pinned_key(now())
                is_answered = key is None or await self._ask(key, now(), client(), change)
            except IsochroneError as error:
                log.debug("no configuration from the collector: %s", error)
                is_answered = False
            pause_s = interval_s if is_answered else min(interval_s, max(_AGAIN_FIRST_S, 2 * pause_s))
            pause_s *= random.uniform(0.8, 1.0)  # noqa: S311  so that a fleet does not ask together

    async def _ask(self, key: str, config: AgentConfig, client: CollectorClient, change: Callable[[AgentConfig], Awaitable[None]]) -> bool:
        path = f"{CONFIG_PATH.format(agent=quote(config.agent.id, safe=''))}?site={quote(config.agent.site, safe='')}"
        answer = await client.ask_own(path, etag=self._etag)
        if answer.status == 200:
            self._etag = answer.etag
            await self.take(json.dumps(dict(answer.body)).encode(), key, config, change)
        return answer.status in {200, 304, 404}

    async def take(self, document: bytes, key: str, config: AgentConfig, change: Callable[[AgentConfig], Awaitable[None]]) -> None:
        """Go on with a signed configuration, or say why not."""
        generation: int | None = None
        try:
            pushed = verified(document, key, agent=config.agent.id, site=config.agent.site)
            generation = pushed.generation
            if not self._is_new(pushed, config):
                return
            # Read in the very state the own file is running in: what is being edited there is none of this.
            text = self._text if self._text is not None else await asyncio.to_thread(read_text, self._path)
            changed = await asyncio.to_thread(parse_config, text, self._path, pushed)
            await change(changed)
        except IsochroneError as error:
            self._refused_generation = generation
            self._refuse("a configuration" if generation is None else f"generation {generation}", error)
            return
        except Exception as error:
            log.exception("a pushed configuration made this program fall over")
            self._refused_generation = generation
            self._refuse("a configuration", error)
            return
        self._newest, self.refused, self._refused_generation = pushed.generation, None, None
        log.info(
            "configuration of generation %d is running (signed %s, for %s)",
            pushed.generation,
            f"{pushed.made_at:%Y-%m-%d %H:%M}",
            one_line(pushed.audience),
        )
        try:
            await asyncio.to_thread(self._kept.write, document, pushed.generation, key)
        except OutsideError as error:
            log.error("%s; it is asked for again after a restart", error)  # noqa: TRY400  no fault of ours

    def _is_new(self, pushed: Pushed, config: AgentConfig) -> bool:
        """Whether it is to be tried. Raises ConfigError for one from before."""
        if pushed.generation < self._newest:
            raise ConfigError(f"it is older than {self._newest}, which this agent has taken; sign it again with a higher generation")
        return pushed.generation not in {config.generation, self._refused_generation}

    def _refuse(self, what: str, why: Exception | None = None) -> None:
        said = one_line(what if why is None else f"{what}: {why}")[:_MOST_REFUSED_CHARACTERS]
        if said != self.refused:
            log.error("refused %s; what was running goes on", said)
        self.refused = said
