"""The certificate with which a router speaks TLS to its clients."""

import logging
import ssl
from pathlib import Path

from serving.config import TlsConfig

log = logging.getLogger(__name__)


class Certificate:
    """A certificate and its key in files, which may be renewed while the router runs."""

    def __init__(self, config: TlsConfig) -> None:
        """Raises RuntimeError if the files cannot be used."""
        self._files = config.certificate_file, config.key_file
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            self._read_at = self._written_at()
            self.context.load_cert_chain(*self._files)
        except OSError as error:  # ssl.SSLError is one
            raise RuntimeError(f"router.tls: {self._unusable(error)}") from None

    def renew(self) -> None:
        """Reads the files again if they have changed: new connections get the new certificate.
        While they cannot be used, the log says so, and connections get the one before."""
        try:
            written_at = self._written_at()
            if written_at == self._read_at:
                return
            self._read_at = written_at
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            log.error("the TLS certificate is not renewed: %s", self._unusable(error))

    def _written_at(self) -> tuple[int, ...]:
        return tuple(Path(file).stat().st_mtime_ns for file in self._files)

    def _unusable(self, error: OSError) -> str:
        return (
            f"certificate_file {self._files[0]} and key_file {self._files[1]} cannot be used where "
            f"the router runs: {error.strerror or error}"
        )
