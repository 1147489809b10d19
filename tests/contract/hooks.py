"""What schemathesis cannot know by itself: how text bodies are sent, and that who may not is refused."""

import os

import schemathesis

# Who the run is: `stranger`, `viewer`, `ingest` or `admin`.
WHO = os.environ.get("MUTTD_EXPECT", "")


def as_text(ctx, value):
    """A body that is text already."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


for media_type in ("application/x-ndjson", "application/toml"):
    schemathesis.serializer(media_type)(as_text)


@schemathesis.check
def refused_as_declared(ctx, response, case):
    """Strangers get 401, viewers 403 for what needs more than to look."""
    right = case.operation.definition.raw.get("x-muttd-right")
    if right is None:
        return
    # A version that is not served is refused before anybody is asked who they are.
    if response.status_code == 400 and b"version" in response.content:
        return
    if WHO == "stranger":
        assert response.status_code == 401, f"a stranger got {response.status_code}"
    if WHO == "viewer" and right != "read":
        assert response.status_code == 403, f"a viewer got {response.status_code}, but it needs the right {right}"
