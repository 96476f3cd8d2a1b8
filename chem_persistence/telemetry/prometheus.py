"""The metrics of a process, served to Prometheus by the exporter of OpenTelemetry."""

from chem_persistence.errors import InvalidArgument

__all__ = ["serve_metrics"]

LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65_535


def serve_metrics(address: str) -> str:
    """Serve the metrics of this process on `PORT` or `HOST:PORT`, and return the URL.

    Without a host they are served on the loopback address alone; port 0 takes a free one. The
    server runs in a thread until the process ends, and asks for no password. To be called before
    anything is measured, in a program that has set no meter provider. Needs the extra `metrics`.

    Raises:
        InvalidArgument: it is not such an address, which another program may use, or the packages
            are missing.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or LOOPBACK
    if not port.isdecimal() or int(port) > LARGEST_PORT:
        raise InvalidArgument("--metrics", f"must be PORT or HOST:PORT, not {address!r}")
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
        from opentelemetry.metrics import set_meter_provider  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from prometheus_client import start_http_server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "--metrics",
            f"needs the package {error.name}: pip install 'chem-persistence[metrics]'",
        ) from error
    set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    try:
        server, _ = start_http_server(int(port), addr=host)
    except OSError as error:
        raise InvalidArgument("--metrics", f"cannot serve on {address}: {error}") from error
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{server.server_port}/metrics"
