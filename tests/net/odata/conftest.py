import json

from ipaas_resources.net.response import Response


def answer(body, status=200, kind="read", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=headers, content=content, kind=kind, what="bc POST $batch")
