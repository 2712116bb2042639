"""Which fields hold personal data unless the system document says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaas_resources.core.schema import Sensitivity

#: Personal wherever they stand: they reach or describe one human being.
_ANYWHERE = {
    "email",
    "email2",
    "personalEmail",
    "phoneNumber",
    "phoneNo",
    "mobilePhone",
    "mobilePhoneNumber",
    "primaryPhoneNumber",
    "givenName",
    "firstName",
    "middleName",
    "surname",
    "lastName",
    "birthDate",
    "iban",
    "bankAccountNumber",
    "contact",
    "contactName",
    "billToContact",
    "sellToContact",
    "shipToContact",
    "buyFromContact",
    "payToContact",
}
#: In these entities a record is a person as a rule, so its name and address are personal too.
_PEOPLE = {"contacts", "employees", "salespeople_purchasers", "contacts_information", "customer_contacts"}
_OF_PEOPLE = {
    "displayName",
    "searchName",
    "addressLine1",
    "addressLine2",
    "postalCode",
    "city",
    "employmentDate",
    "terminationDate",
}


def sensitivity_of(entity: str, field: str) -> Sensitivity:
    """The default sensitivity of a field."""
    if field in _ANYWHERE or (entity in _PEOPLE and field in _OF_PEOPLE):
        return "personal"
    return "none"
