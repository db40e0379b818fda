"""Where a device gets its key: the page of a link, what it posts to, and the same over a present certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redlatch.service.context import Context
    from redlatch.service.origin import App


def create(context: Context) -> tuple[App, App]:
    """Two applications: what the console's origin serves below /renew, and the enrolment origin. Both are to be
    wrapped in `service.security.Guarded`, and expect the client's certificate where `service.origin` puts it.
    """
    from redlatch.service.enrolment.app import invitations
    from redlatch.service.enrolment.renewal import renewal

    return renewal(context), invitations(context)
