"""The identity cache for Flask: files skip the session, users are loaded when they change."""

from .extension import UserCache, UserCacheMiddleware
from .lanes import Lane

__all__ = ["Lane", "UserCache", "UserCacheMiddleware"]
__version__ = "0.1.0"
