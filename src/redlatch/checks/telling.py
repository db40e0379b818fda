"""Telling the operator what is new and what is over since the last time, and never the same thing twice."""

from __future__ import annotations

import os
from typing import Any

from redlatch.checks import report as reports
from redlatch.checks.report import Kept, News
from redlatch.checks.run import Report
from redlatch.errors import RedlatchError
from redlatch.files import own_user
from redlatch.operations import machine, notices
from redlatch.operations.site import Notify, Site


def keep(site: Site, report: Report, *, tell: bool) -> News:
    """Keeps the report for the console and, with `tell`, hands what is new and what is over to the operator's
    command and web hook; what was told.

    EngineError when these fail: the report is kept, and the same is told at the next call. FileProblem when the
    report cannot be kept: then nobody is told, or they would be again and again.
    """
    settings = site.settings
    before = reports.load(settings)
    now = reports.kept(report, before, site.clock())
    name, notify = _whom(site, before)
    now = reports.telling(now, notify)
    reports.save(settings, now)
    heard = reports.news(report, now) if tell else News((), ())
    if not heard or not (notify.command or notify.webhook):
        return News((), ())
    # root must not run what redlatch's own user may choose
    owner = own_user(settings) if os.geteuid() == 0 else None
    notices.deliver(notify, _document(name, heard), owner=owner)
    reports.save(settings, reports.told(now, heard))
    return heard


def _whom(site: Site, before: Kept | None) -> tuple[str, Notify]:
    """This machine's name, and who is told; where the store cannot say it, as it was said last."""
    try:
        config = site.config()
    except RedlatchError:
        return machine.machine_name(), (before.notify if before is not None else Notify())
    return config.machine, config.notify


def _document(name: str, heard: News) -> dict[str, Any]:
    return {
        "event": "check",
        "machine": name,
        "new": [
            {
                "code": one.code,
                "severity": one.severity,
                "title": one.title,
                "text": one.text,
                "subject": one.subject,
                "remedy": one.remedy,
            }
            for one in heard.new
        ],
        "over": [{"code": code, "subject": subject} for code, subject in heard.over],
    }
