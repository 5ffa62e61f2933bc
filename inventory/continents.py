"""Which continent a country is on: the regions of the UN's M49 standard, with the Americas split as people speak of them.

Central America and the Caribbean count as North America; transcontinental countries stand where M49 puts them (Russia in
Europe, Turkey, Cyprus and the Caucasus in Asia, Egypt in Africa).
"""

from __future__ import annotations

__all__ = ["CONTINENTS", "continent_of"]

CONTINENTS: dict[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "Africa": """
            AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW IO KE KM LR LS LY MA MG ML MR MU MW MZ NA
            NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TF TG TN TZ UG YT ZA ZM ZW""",
        "Antarctica": "AQ",
        "Asia": """
            AE AF AM AZ BD BH BN BT CN CY GE HK ID IL IN IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK
            PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE""",
        "Europe": """
            AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT
            NL NO PL PT RO RS RU SE SI SJ SK SM UA VA""",
        "North America": """
            AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT
            US VC VG VI""",
        "Oceania": "AS AU CC CK CX FJ FM GU HM KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
        "South America": "AR BO BR BV CL CO EC FK GF GS GY PE PY SR UY VE",
    }.items()
}
_OF = {code: name for name, codes in CONTINENTS.items() for code in codes}


def continent_of(country: str | None) -> str | None:
    """The continent of a country by its ISO 3166-1 alpha-2 code; None where the country is not known.

    >>> continent_of("SG"), continent_of("BR"), continent_of(None)
    ('Asia', 'South America', None)
    """
    return None if country is None else _OF.get(country)
