"""Names of the files about classes and confidence, in a work directory or any other folder."""

CLASSES, CONFUSION, CALIBRATION = "classes.csv", "confusion.csv", "calibration.csv"
CONFUSION_PNG, CALIBRATION_PNG = "confusion.png", "calibration.png"
# How the files begin, by which they are known.
HEADS = {
    CLASSES: b"class,name,examples,errors,",
    CONFUSION: b"right class,",
    CALIBRATION: b"above,to,examples,right,",
    **dict.fromkeys((CONFUSION_PNG, CALIBRATION_PNG), b"\x89PNG"),
}
