"""The door in front of the pages: who is there, what he may see, and the way out."""

from __future__ import annotations

import streamlit as st

from app import access, frame
from app.access import Role

__all__ = ["enter"]


def enter() -> Role:
    """The role of who looks at the page; without one the page ends here, before it reads anything."""
    known = access.configured()
    if known is None:
        return "analyst"
    if not st.user.is_logged_in:
        frame.head("Isochrone", "Sign in to see the network.")
        if st.button("Sign in", type="primary", icon=":material/login:"):
            st.login()
        st.stop()
    claims = st.user.to_dict()
    role = access.role_of(known, claims)
    said = str(claims.get("email") or "an account without an address")
    with st.sidebar, st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{said}" + (f" · {role}" if role else ""))
        if st.button("Sign out", type="tertiary"):
            st.logout()
    if role is None:
        frame.head("Isochrone", "You are signed in, and may see nothing here.")
        st.warning(
            f"{said} has no role on this dashboard. Who runs it gives one in the access file ([roles]); or sign in as somebody else.",
            icon=":material/lock:",
        )
        st.stop()
    return role
