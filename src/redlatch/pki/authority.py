"""The two certificate authorities of a site, and what they issue (RFC 5280).

The server CA names the server; its root may be installed on phones and laptops, so critical name constraints
keep it to private names, private addresses and the person's own domains. The device CA names the devices and
is in no trust store but the server's. Neither can sign another CA. Clock and keys are handed in.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from redlatch.errors import Conflict, InvalidInput, PassphraseNeeded
from redlatch.pki import profiles
from redlatch.pki.keys import Key, PublicKey, check_public_key, generate_key
from redlatch.pki.names import Address, device_name, hidden_character, host_name, parse_address
from redlatch.pki.top_level_domains import is_top_level_domain

_ORGANIZATION = x509.NameAttribute(NameOID.ORGANIZATION_NAME, profiles.ORGANIZATION)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate and, where its key is at hand, the key. Without the key it can be shown, not used.
    `chain` is what stands above it, its issuer first, its root last (empty: it is its own root).

    Raises InvalidInput when key and certificate do not belong together, and for a certificate that is no CA.
    """

    certificate: x509.Certificate
    key: Key | None = field(default=None, repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    _identifier: x509.AuthorityKeyIdentifier = field(init=False, repr=False, compare=False)
    _constraints: x509.NameConstraints | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.key is not None and self.key.public_key() != self.certificate.public_key():
            raise InvalidInput("the CA's certificate and its private key do not belong together")
        # Parsed once: reading extensions costs more than signing a certificate.
        extensions = self.certificate.extensions
        try:
            subject = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            raise InvalidInput("the certificate is no CA's")
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
        object.__setattr__(self, "_identifier", identifier)
        object.__setattr__(self, "_constraints", _constraints_of(self.certificate))

    @classmethod
    def create_server(cls, site: str, names: Sequence[str], *, now: datetime, key: Key | None = None) -> Authority:
        """Make the CA that names the server. `names`: own host names and public addresses, besides private ones.

        `site` is a label in the subject. A host name that is a public top-level domain ("dev") gets no subtree:
        `covers` says no to it. Raises InvalidInput for a name that is neither host nor address.
        """
        return cls._create(site, "server", now, key, _name_constraints(names))

    @classmethod
    def create_device(cls, site: str, *, now: datetime, key: Key | None = None) -> Authority:
        """Make the CA that names the devices. `site` is a label in the subject."""
        return cls._create(site, "device", now, key, None)

    @classmethod
    def _create(
        cls, site: str, kind: str, now: datetime, key: Key | None, constraints: x509.NameConstraints | None
    ) -> Authority:
        hidden = hidden_character(site)
        if hidden is not None:
            raise InvalidInput(f"the site's name contains {hidden}")
        key = key or generate_key("p256")
        public = check_public_key(key.public_key())
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        subject = authority_subject(site, kind, public)
        begin = _whole_seconds(now - profiles.CLOCK_TOLERANCE)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(subject)
            .subject_name(subject)
            .public_key(public)
            .serial_number(_serial())
            .not_valid_before(begin)
            .not_valid_after(_whole_seconds(now) + timedelta(days=profiles.CA_DAYS))
            .add_extension(profiles.CA_BASIC_CONSTRAINTS, critical=True)
            .add_extension(profiles.CA_KEY_USAGE, critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        return cls(builder.sign(key, SHA256()), key)

    @property
    def root(self) -> x509.Certificate:
        """What is installed by whoever trusts this CA."""
        return self.chain[-1] if self.chain else self.certificate

    @property
    def shown(self) -> tuple[x509.Certificate, ...]:
        """What a server shows beside its own certificate: all between that and the root."""
        return (self.certificate, *self.chain[:-1]) if self.chain else ()

    @property
    def not_after(self) -> datetime:
        """Until when what it issues is good: its own end, or an earlier one above it."""
        return min(one.not_valid_after_utc for one in (self.certificate, *self.chain))

    @property
    def is_constrained(self) -> bool:
        """Whether there are name constraints in it or in its chain."""
        return any(_constraints_of(one) is not None for one in (self.certificate, *self.chain))

    def covers(self, name: str | Address) -> bool:
        """Say whether the name constraints of this CA and of its chain let it name a host or address. Nonsense:
        no.
        """
        if parse_address(name) is None and not _is_host(name):
            return False
        above = (_constraints_of(one) for one in self.chain)
        return all(one is None or _permits(one, name) for one in (self._constraints, *above))

    def issue_server(
        self,
        public_key: PublicKey,
        names: Sequence[str],
        addresses: Sequence[str | Address] = (),
        *,
        now: datetime,
        days: int = profiles.SERVER_DAYS,
    ) -> x509.Certificate:
        """Issue the server's certificate for these host names and IP addresses, at least one of them.

        The first host name is the CN, a label. Raises InvalidInput for names that are none or that this CA
        may not name, for keys that `check_public_key` refuses and for `days` outside 1..397; Conflict when
        the CA has ended; PassphraseNeeded when its key is not at hand.
        """
        hosts = list(dict.fromkeys(host_name(name) for name in names))
        numbers = list(dict.fromkeys(_address(value) for value in addresses))
        for name in (*hosts, *numbers):
            if not self.covers(name):
                raise InvalidInput(
                    f"this site's server CA may not name {name}",
                    hint=f"{name} is a public top-level domain: use {name}.local"
                    if is_top_level_domain(str(name))
                    else "a public name or address has to be given when the CA is made",
                )
        if not hosts and not numbers:
            raise InvalidInput("a server certificate needs a host name or an address")
        common = next((host for host in hosts if len(host) <= profiles.COMMON_NAME_BYTES), None)
        rsa_key = isinstance(public_key, rsa.RSAPublicKey)
        return self._issue(
            public_key,
            _subject(common or str(numbers[0] if numbers else "server")),
            x509.SubjectAlternativeName([*map(x509.DNSName, hosts), *map(x509.IPAddress, numbers)]),
            # RSA key exchange of TLS 1.2 (RFC 5246, 7.4.2) encrypts under the certificate's key.
            profiles.RSA_SERVER_KEY_USAGE if rsa_key else profiles.LEAF_KEY_USAGE,
            profiles.SERVER_EXTENDED_KEY_USAGE,
            now=now,
            days=_days(days, profiles.SERVER_DAYS),
        )

    def issue_device(
        self,
        public_key: PublicKey,
        *,
        device_id: str,
        name: str,
        site_host: str,
        now: datetime,
        days: int = profiles.DEVICE_DAYS,
    ) -> x509.Certificate:
        """Issue a device's certificate. `device_id` is a UUID, `name` becomes the CN, a label cut to 64 octets.

        The subjectAltName is https://<site_host>/device/<device_id>: verifiers want one, and Go refuses a
        `urn:`. Roles are not in it. Raises InvalidInput for bad names, for keys that `check_public_key`
        refuses and for `days` outside 1..365; Conflict when the CA has ended; PassphraseNeeded when its
        key is not at hand.
        """
        uri = f"https://{host_name(site_host)}/device/{_uuid(device_id)}"
        return self._issue(
            public_key,
            _subject(_fitting(device_name(name), room=profiles.COMMON_NAME_BYTES)),
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]),
            profiles.LEAF_KEY_USAGE,
            profiles.DEVICE_EXTENDED_KEY_USAGE,
            now=now,
            days=_days(days, profiles.DEVICE_DAYS),
        )

    def _issue(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        names: x509.SubjectAlternativeName,
        usage: x509.KeyUsage,
        purpose: x509.ExtendedKeyUsage,
        *,
        now: datetime,
        days: int,
    ) -> x509.Certificate:
        if self.key is None:
            raise PassphraseNeeded("the CA's key is not at hand", hint="give its passphrase")
        check_public_key(public_key)
        begin, end = self._validity(now, days)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.certificate.subject)
            .subject_name(subject)
            .public_key(public_key)
            .serial_number(_serial())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(profiles.LEAF_BASIC_CONSTRAINTS, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(purpose, critical=False)
            .add_extension(names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        return builder.sign(self.key, SHA256())

    def _validity(self, now: datetime, days: int) -> tuple[datetime, datetime]:
        """Begin a little early and end on time, both within the validity of the CA and of what stands above it."""
        first, last = self.certificate.not_valid_before_utc, self.not_after
        begin = max(_whole_seconds(now - profiles.CLOCK_TOLERANCE), first)
        end = min(max(_whole_seconds(now), first) + timedelta(days=days), last)
        if begin >= end:
            raise Conflict(
                f"the CA{'' if last == self.certificate.not_valid_after_utc else ', or one above it,'} ended on "
                f"{last:%Y-%m-%d}",
                hint="check this machine's clock; else a new CA is needed",
            )
        return begin, end


def authority_subject(site: str, kind: str, public: PublicKey) -> x509.Name:
    """Return the subject of a CA of `kind` with that key; `site` is a label."""
    # The digest keeps the CAs of two homes, or of one set up twice, apart in a trust store.
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:6]
    label = _fitting(site.strip() or "site", room=profiles.COMMON_NAME_BYTES - len(f"  {kind} CA 012345"))
    return _subject(f"{label} {kind} CA {digest}")


def _name_constraints(names: Sequence[str]) -> x509.NameConstraints:
    """Permit private names, private networks and `names`; e-mail addresses and URIs of a host that cannot exist.

    Directory names stay free: a critical constraint on them makes cryptography (pull request 15014) and Go refuse
    the whole chain. So do otherNames, which OpenSSL, NSS and cryptography do not compare. No TLS client takes a
    host from either; tests/contract/pki shows who enforces what.
    """
    hosts: list[str] = list(profiles.PRIVATE_DOMAINS)
    networks: list[IPv4Network | IPv6Network] = list(profiles.PRIVATE_NETWORKS)
    for name in names:
        address = parse_address(name)
        if address is None:
            host = host_name(name)
            # A machine named "dev" must not get a root that may vouch for all of .dev.
            if not is_top_level_domain(host) and not _is_below(host, hosts):
                hosts.append(host)
        elif not any(address in network for network in networks):
            networks.append(ip_network(address))
    return x509.NameConstraints(
        permitted_subtrees=[
            *map(x509.DNSName, hosts),
            *map(x509.IPAddress, networks),
            x509.RFC822Name(profiles.NOBODY),
            x509.UniformResourceIdentifier(profiles.NOBODY),
        ],
        excluded_subtrees=None,
    )


def _constraints_of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _permits(constraints: x509.NameConstraints, name: str | Address) -> bool:
    """RFC 5280, 4.2.1.10: a form of name is restricted only where a subtree of that form is given."""
    address = parse_address(name)

    def within(trees: Sequence[x509.GeneralName] | None) -> bool | None:
        if address is not None:
            networks = [ip_network(tree.value) for tree in trees or () if isinstance(tree, x509.IPAddress)]
            return any(address in one for one in networks) if networks else None
        domains = [tree.value.lower().lstrip(".") for tree in trees or () if isinstance(tree, x509.DNSName)]
        # the empty name is above every other one
        return "" in domains or _is_below(host_name(str(name)), domains) if domains else None

    return within(constraints.permitted_subtrees) is not False and not within(constraints.excluded_subtrees)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([_ORGANIZATION, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _fitting(text: str, *, room: int) -> str:
    """Cut text to `room` UTF-8 octets, never within a character."""
    return text.encode()[:room].decode(errors="ignore").strip()


def _serial() -> int:
    return (1 << profiles.SERIAL_BITS) | secrets.randbits(profiles.SERIAL_BITS)


def _whole_seconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidInput("a time without a time zone cannot be used")
    return moment.astimezone(UTC).replace(microsecond=0)


def _days(days: int, most: int) -> int:
    if not 1 <= days <= most:
        raise InvalidInput(f"a certificate for {days} days is not made", hint=f"give 1 to {most} days")
    return days


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput("a device's id is a UUID") from error


def _address(value: str | Address) -> Address:
    address = parse_address(value)
    if address is None:
        raise InvalidInput(f"{ascii(str(value))[:80]} is not an IP address")
    return address


def _is_host(name: str | Address) -> bool:
    try:
        host_name(str(name))
    except InvalidInput:
        return False
    return True


def _is_below(host: str, domains: Sequence[str]) -> bool:
    return any(f".{host}".endswith(f".{domain}") for domain in domains)
