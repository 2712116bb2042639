"""What the simulated calibration lab works with: instrument types, people, subcontractors, answers. All invented."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class InstrumentType(msgspec.Struct, frozen=True):
    """A kind of instrument that the lab calibrates."""

    code: str
    name: str
    manufacturer: str
    part_number: str
    discipline: str
    category: str
    charge: Decimal  # for one calibration, before tax


def _type(row: str) -> InstrumentType:
    code, name, manufacturer, part, discipline, category, charge = (cell.strip() for cell in row.split("|"))
    return InstrumentType(code, name, manufacturer, part, discipline, category, Decimal(charge))


INSTRUMENT_TYPES = tuple(
    _type(row)
    for row in (
        "CAL-DIM-CALIPER | Digital caliper 0-150 mm | Norvik | NV-150D | Dimensional | Calipers | 48.00",
        "CAL-DIM-MICRO | Outside micrometer 0-25 mm | Norvik | NV-25M | Dimensional | Micrometers | 52.50",
        "CAL-DIM-GAUGE | Gauge block set, 47 pieces | Tessel | GB-47-1 | Dimensional | Gauge blocks | 610.00",
        "CAL-DIM-PLUG | Thread plug gauge M8x1.25 | Tessel | TP-M8 | Dimensional | Thread gauges | 39.90",
        "CAL-DIM-INDIC | Dial indicator 10 mm | Norvik | NV-DI10 | Dimensional | Indicators | 41.25",
        "CAL-MAS-BALANCE | Analytical balance 220 g | Lumen & Holt | AB-220 | Mass | Balances | 189.00",
        "CAL-MAS-WEIGHT | Weight set E2, 1 mg - 200 g | Lumen & Holt | WS-E2 | Mass | Weights | 745.40",
        "CAL-MAS-SCALE | Platform scale 150 kg | Stagecoach | PS-150 | Mass | Balances | 132.00",
        "CAL-TMP-PROBE | Pt100 probe -50 to 250 °C | Calora | PT-100A | Temperature | Probes | 96.75",
        "CAL-TMP-LOGGER | Temperature and humidity logger | Calora | TH-2 | Temperature | Loggers | 118.30",
        "CAL-TMP-BLOCK | Dry block calibrator | Calora | DB-650 | Temperature | Calibrators | 264.00",
        "CAL-TMP-IR | Infrared thermometer | Calora | IR-12 | Temperature | Thermometers | 88.20",
        "CAL-ELE-DMM | Digital multimeter 6.5 digits | Voltera | DM-65 | Electrical | Multimeters | 215.00",
        "CAL-ELE-CLAMP | AC/DC clamp meter 600 A | Voltera | CL-600 | Electrical | Clamp meters | 74.60",
        "CAL-ELE-SCOPE | Oscilloscope 200 MHz | Voltera | OS-200 | Electrical | Oscilloscopes | 342.85",
        "CAL-ELE-DECADE | Resistance decade box | Voltera | RD-7 | Electrical | Resistors | 159.99",
        "CAL-ELE-INSUL | Insulation tester 1 kV | Voltera | IT-1K | Electrical | Testers | 92.45",
        "CAL-PRS-GAUGE | Pressure gauge 0-10 bar, class 0.6 | Baros | PG-10 | Pressure | Gauges | 57.10",
        "CAL-PRS-CALIB | Pressure calibrator 20 bar | Baros | PC-20 | Pressure | Calibrators | 288.00",
        "CAL-PRS-TRANS | Pressure transmitter 4-20 mA | Baros | PT-420 | Pressure | Transmitters | 101.05",
        "CAL-FRC-TORQUE | Torque wrench 20-100 Nm | Halden | TW-100 | Force | Torque wrenches | 66.00",
        "CAL-FRC-CELL | Load cell 5 kN | Halden | LC-5 | Force | Load cells | 173.33",
        "CAL-FLW-METER | Flow meter DN25 | Fluxo | FM-25 | Flow | Flow meters | 229.95",
        "CAL-TIM-STOP | Stopwatch | Fluxo | SW-1 | Time | Stopwatches | 24.00",
    )
)

#: First name, last name, title.
EMPLOYEES = (
    ("Ines", "Berg", "Calibration Technician"),
    ("Tomáš", "Novák", "Calibration Technician"),
    ("Aoife", "Ní Bhriain", "Calibration Technician"),
    ("Yusuf", "Öztürk", "Senior Technician"),
    ("Marit", "Sørensen", "Quality Manager"),
    ("Jean-Luc", "Lefèvre", "Laboratory Manager"),
    ("Wei", "Zhāng", "Calibration Technician"),
    ("Priya", "Nair", "Front Office"),
)

#: Account number, company name.
VENDORS = (
    ("V0001", "Nordic Reference Lab AS"),
    ("V0002", "Prüfstelle Süd GmbH"),
    ("V0003", "Highland Metrology Ltd."),
    ("V0004", "Laboratoire du Rhône S.A."),
    ("V0005", "Baltic Mass Standards OÜ"),
)

#: How many work orders stand in which status: the same in every world, whatever its seed.
ORDER_STATUSES = (
    *(("Completed", 236), ("Closed", 64), ("Processing", 84), ("QualityControl", 28), ("Submitted", 42)),
    *(("Ready", 18), ("Delayed", 8), ("WaitingForApproval", 14), ("Draft", 16), ("Cancelled", 10)),
)
ORDERS = sum(count for _, count in ORDER_STATUSES)

#: Statuses in which the lab has issued the order's certificate.
FINISHED = frozenset({"Completed", "Closed"})

#: What may be done to an instrument, and how often of a hundred.
SERVICE_TYPES = (("Calibration", 86), ("Repair", 9), ("Adjustment", 5))
