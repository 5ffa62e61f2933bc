"""The 249 country codes of ISO 3166-1 alpha-2, as of 2025, and what people type instead of one."""

from __future__ import annotations

__all__ = ["COUNTRIES", "hint"]

_CODES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL
BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV
CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM
IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK
LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR
PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS
ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""

COUNTRIES = frozenset(_CODES.split())

#: Codes of other lists whose first two letters are no code, or another country's.
# fmt: off
_OTHERS = {
    "UK": "GB", "EL": "GR", "ARE": "AE", "AUT": "AT", "BGD": "BD", "BIH": "BA", "CHL": "CL", "CHN": "CN", "DEN": "DK", "DNK": "DK",
    "EST": "EE", "GER": "DE", "IDN": "ID", "IRL": "IE", "ISR": "IL", "JAP": "JP", "KAZ": "KZ", "KOR": "KR", "MAR": "MA", "MEX": "MX",
    "PAK": "PK", "POL": "PL", "POR": "PT", "PRK": "KP", "PRT": "PT", "PRY": "PY", "SEN": "SN", "SUI": "CH", "SVK": "SK", "SVN": "SI",
    "SWE": "SE", "TUR": "TR", "UKR": "UA", "URY": "UY",
}
# fmt: on


def hint(typed: str) -> str:
    """What to say of a code that is none.

    >>> hint("GER"), hint("usa"), hint("ZZ")
    ('; did you mean DE', '; did you mean US', ', such as SG or DE')
    """
    code = typed.strip().upper()
    code = _OTHERS.get(code, code if len(code) == 2 else code[:2] if len(code) == 3 else "")
    return f"; did you mean {code}" if code in COUNTRIES else ", such as SG or DE"
