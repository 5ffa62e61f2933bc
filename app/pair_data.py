"""What the pages read of one pair, kept as app.data keeps things: by snapshot and by what was asked."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from app.data import Columns, Source, columns_of, opened
from records.measurement import TracerouteResult
from warehouse import queries

__all__ = ["inference", "path_history", "paths", "ping", "throughput"]


@st.cache_data(show_spinner=False, max_entries=64)
def _ping(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime, buckets: int) -> Columns:
    return columns_of(queries.ping_series(opened(key[0]), src, dst, medium, start=start, end=end, bucket_count=buckets))


def ping(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime, buckets: int) -> Columns:
    """A pair's ping series in equal buckets; empty ones are there, with None."""
    return _ping(at.key, src, dst, medium, start, end, buckets)


@st.cache_data(show_spinner=False, max_entries=64)
def _throughput(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return columns_of(queries.throughput_series(opened(key[0]), src, dst, medium, start=start, end=end))


def throughput(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """A pair's throughput tests."""
    return _throughput(at.key, src, dst, medium, start, end)


@st.cache_data(show_spinner=False, max_entries=64)
def _inference(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return columns_of(queries.inference_series(opened(key[0]), src, dst, medium, start=start, end=end))


def inference(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """A pair's inference requests."""
    return _inference(at.key, src, dst, medium, start, end)


@st.cache_resource(show_spinner=False, max_entries=64)
def _paths(key: tuple[str, int], src: str, dst: str, medium: str | None) -> tuple[TracerouteResult, ...]:
    return tuple(queries.latest_paths(opened(key[0]), src, dst, medium))


def paths(at: Source, src: str, dst: str, medium: str | None) -> tuple[TracerouteResult, ...]:
    """The newest path of each flow of a pair."""
    return _paths(at.key, src, dst, medium)


@st.cache_data(show_spinner=False, max_entries=64)
def _path_history(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return columns_of(queries.path_history(opened(key[0]), src, dst, medium, start, end))


def path_history(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """Every traceroute of a pair in a span of time."""
    return _path_history(at.key, src, dst, medium, start, end)
