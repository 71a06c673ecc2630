"""/admin/api: what the operator sees and changes. It is closed to whoever only has a key for ranking: the check hangs on the
router, and every route of it is on this list.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends

from rerankd.app import Application
from rerankd.server.admin_audit import AuditRoutes
from rerankd.server.admin_channels import ChannelRoutes
from rerankd.server.admin_check import AdminCheck
from rerankd.server.admin_keys import KeyRoutes
from rerankd.server.admin_models import ModelRoutes
from rerankd.server.admin_requests import RequestRoutes
from rerankd.server.admin_settings import SettingRoutes
from rerankd.server.admin_usage import UsageRoutes
from rerankd.server.keys import KeyCheck

NOUNS = (ChannelRoutes, ModelRoutes, UsageRoutes, RequestRoutes, SettingRoutes, AuditRoutes)


def admin_routes(application: Application, keys: KeyCheck) -> APIRouter:
    router = APIRouter(prefix="/admin/api", tags=["admin"], dependencies=[Depends(AdminCheck(keys))])
    for noun in (KeyRoutes(application, keys), *(noun(application) for noun in NOUNS)):
        for route in noun.routes():
            route.add_to(router)
    return router
