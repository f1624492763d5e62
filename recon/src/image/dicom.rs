//! DICOM: one multi-frame grayscale word secondary capture image (PS3.3, A.8.4) with the place of each slice.
//!
//! DICOM has neither a modality nor an image class for magnetic particle imaging, so the modality is `OT` and the class is the one for
//! volumes of 16 bits that come from elsewhere. Frames of the file are slices, those of a later image after those of an earlier one. Its
//! axes are left, posterior and superior; the scanner's x, y and z are right, anterior and superior, as in [`super::write_nrrd`].
//!
//! Values are `intercept + slope × stored`, said by the *Real World Value Mapping* (PS3.3, C.7.6.16.2.11), because the class
//! wants an identity for `Rescale Slope` and `Rescale Intercept` (C.8.6.3).

use std::io::Write;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::{Image, millimetres};
use crate::Error;
use crate::mdf::Mdf;
use crate::mdf::text::{is_time, is_uuid_v4, new_uuid, now};

/// What is written beside the voxels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Patient ID: whom or what the image is of.
    pub subject: String,
    /// Study, with its UUID.
    pub study: (String, String),
    /// Experiment, which names the series, with its UUID.
    pub series: (String, String),
    /// Who made the scanner, what it is called, and where it is.
    pub scanner: [String; 3],
    /// When the scan began: UTC, `yyyy-mm-ddThh:mm:ss` with or without decimals; anything else is taken for now.
    pub time: String,
    /// Whether the scan was computed.
    pub is_simulation: bool,
    /// Unit of the values in UCUM (<https://ucum.org>), `mmol/L` for a concentration; `None` for an arbitrary one.
    pub unit: Option<String>,
}

impl Labels {
    /// What a scan's file says of itself.
    #[must_use]
    pub fn of(scan: &Mdf, unit: Option<&str>) -> Self {
        Self {
            subject: scan.experiment.subject.clone(),
            study: (scan.study.name.clone(), scan.study.uuid.clone()),
            series: (scan.experiment.name.clone(), scan.experiment.uuid.clone()),
            scanner: [
                scan.scanner.manufacturer.clone(),
                scan.scanner.name.clone(),
                scan.scanner.facility.clone(),
            ],
            time: scan.acquisition.sequence.start_time.clone(),
            is_simulation: scan.experiment.is_simulation,
            unit: unit.map(str::to_owned),
        }
    }
}

/// Writes an image; each voxel has 16 bits between the least and the greatest value.
///
/// # Errors
/// An edge has more than 65535 voxels, a value is no number, the system gives no random numbers for a UID, or writing fails.
pub fn write_dicom(image: &Image, labels: &Labels, out: &mut impl Write) -> Result<(), Error> {
    let scale = Scale::of(image)?;
    let mut object = InMemDicomObject::new_empty();
    let instance = uid(None)?;
    patient_and_study(&mut object, labels)?;
    equipment(&mut object, labels);
    pixels(&mut object, image, &scale)?;
    places(&mut object, image);
    object.put(mapping(&scale, labels));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE)
        .media_storage_sop_instance_uid(instance.as_str());
    text(
        &mut object,
        tags::SOP_CLASS_UID,
        VR::UI,
        uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
    );
    text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &instance);
    let file = object.with_meta(meta).map_err(|error| Error::Dicom(Box::new(error)))?;
    file.write_all(out).map_err(|error| Error::Dicom(Box::new(error)))
}

/// How values become 16 bits: value = intercept + slope × stored.
struct Scale {
    intercept: f64,
    slope: f64,
}

impl Scale {
    fn of(image: &Image) -> Result<Self, Error> {
        if let Some(index) = image.data.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { what: "voxel", index });
        }
        let least = f64::from(image.data.iter().copied().fold(f32::INFINITY, f32::min));
        let most = f64::from(image.data.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let slope = if most > least { (most - least) / f64::from(u16::MAX) } else { 1.0 };
        Ok(Self { intercept: least, slope })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 65535, and `as` keeps to it"
    )]
    fn stored(&self, value: f32) -> u16 {
        ((f64::from(value) - self.intercept) / self.slope).round() as u16
    }
}

fn patient_and_study(object: &mut InMemDicomObject, labels: &Labels) -> Result<(), Error> {
    let (date, time) = moment(&labels.time);
    text(object, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    text(object, tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0000");
    text(object, tags::PATIENT_NAME, VR::PN, "");
    text(object, tags::PATIENT_ID, VR::LO, &long(&labels.subject));
    text(object, tags::PATIENT_BIRTH_DATE, VR::DA, "");
    text(object, tags::PATIENT_SEX, VR::CS, "");
    text(object, tags::STUDY_INSTANCE_UID, VR::UI, &uid(Some(&labels.study.1))?);
    text(object, tags::STUDY_DATE, VR::DA, &date);
    text(object, tags::STUDY_TIME, VR::TM, &time);
    text(object, tags::REFERRING_PHYSICIAN_NAME, VR::PN, "");
    text(object, tags::STUDY_ID, VR::SH, "");
    text(object, tags::ACCESSION_NUMBER, VR::SH, "");
    text(object, tags::STUDY_DESCRIPTION, VR::LO, &long(&labels.study.0));
    text(object, tags::MODALITY, VR::CS, "OT");
    // Each image is a series; those of one experiment share its coordinates.
    text(object, tags::SERIES_INSTANCE_UID, VR::UI, &uid(None)?);
    text(object, tags::SERIES_NUMBER, VR::IS, "1");
    // Asked for, and empty: of no body, of none of its sides.
    text(object, tags::LATERALITY, VR::CS, "");
    text(object, tags::PATIENT_ORIENTATION, VR::CS, "");
    text(object, tags::SERIES_DESCRIPTION, VR::LO, &long(&labels.series.0));
    text(object, tags::FRAME_OF_REFERENCE_UID, VR::UI, &uid(Some(&labels.series.1))?);
    text(object, tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
    text(object, tags::CONTENT_DATE, VR::DA, &date);
    text(object, tags::CONTENT_TIME, VR::TM, &time);
    Ok(())
}

fn equipment(object: &mut InMemDicomObject, labels: &Labels) {
    let [manufacturer, model, facility] = &labels.scanner;
    text(object, tags::MANUFACTURER, VR::LO, &long(manufacturer));
    text(object, tags::MANUFACTURER_MODEL_NAME, VR::LO, &long(model));
    text(object, tags::INSTITUTION_NAME, VR::LO, &long(facility));
    text(object, tags::SOFTWARE_VERSIONS, VR::LO, concat!("hatchway-recon ", env!("CARGO_PKG_VERSION")));
    // A synthetic image: computed, neither scanned from paper nor taken off a screen.
    text(object, tags::CONVERSION_TYPE, VR::CS, "SYN");
    text(object, tags::INSTANCE_NUMBER, VR::IS, "1");
    text(object, tags::IMAGE_TYPE, VR::CS, "DERIVED\\PRIMARY");
    let origin = if labels.is_simulation { "a simulated scan" } else { "a scan" };
    text(object, tags::DERIVATION_DESCRIPTION, VR::ST, &format!("Reconstructed from {origin}"));
    text(object, tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    text(object, tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
    text(object, tags::RESCALE_INTERCEPT, VR::DS, "0");
    text(object, tags::RESCALE_SLOPE, VR::DS, "1");
    text(object, tags::RESCALE_TYPE, VR::LO, "US");
}

fn pixels(object: &mut InMemDicomObject, image: &Image, scale: &Scale) -> Result<(), Error> {
    let [nx, ny, nz] = image.grid.size;
    let edge = |edge: usize| {
        u16::try_from(edge)
            .map_err(|_| Error::Image(format!("{edge} voxels along an edge are more than DICOM can have")))
    };
    number(object, tags::SAMPLES_PER_PIXEL, 1);
    text(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    number(object, tags::ROWS, edge(ny)?);
    number(object, tags::COLUMNS, edge(nx)?);
    number(object, tags::BITS_ALLOCATED, 16);
    number(object, tags::BITS_STORED, 16);
    number(object, tags::HIGH_BIT, 15);
    number(object, tags::PIXEL_REPRESENTATION, 0);
    text(object, tags::NUMBER_OF_FRAMES, VR::IS, &(nz * image.frames()).to_string());
    let stored: Vec<u16> = image.data.iter().map(|value| scale.stored(*value)).collect();
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored.into())));
    Ok(())
}

/// Where the slices are, by the functional groups (C.7.6.16) and by the vector that secondary captures have (C.8.6.4).
fn places(object: &mut InMemDicomObject, image: &Image) {
    let [_, _, nz] = image.grid.size;
    let [x, y, _] = image.grid.position(0).map(millimetres);
    let spacing = image.grid.spacing().map(millimetres);
    let heights: Vec<f64> = (0..nz * image.frames())
        .map(|slice| {
            millimetres(image.grid.position(slice % nz * image.grid.size[0] * image.grid.size[1])[2])
        })
        .collect();
    let mut measures = InMemDicomObject::new_empty();
    decimals(&mut measures, tags::PIXEL_SPACING, &[spacing[1], spacing[0]]);
    decimals(&mut measures, tags::SLICE_THICKNESS, &[spacing[2]]);
    decimals(&mut measures, tags::SPACING_BETWEEN_SLICES, &[spacing[2]]);
    let mut orientation = InMemDicomObject::new_empty();
    decimals(&mut orientation, tags::IMAGE_ORIENTATION_PATIENT, &[-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]);
    let mut shared = InMemDicomObject::new_empty();
    sequence(&mut shared, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
    sequence(&mut shared, tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]);
    let of_frame = |height: &f64| {
        let mut position = InMemDicomObject::new_empty();
        decimals(&mut position, tags::IMAGE_POSITION_PATIENT, &[-x, -y, *height]);
        let mut groups = InMemDicomObject::new_empty();
        sequence(&mut groups, tags::PLANE_POSITION_SEQUENCE, vec![position]);
        groups
    };
    sequence(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    sequence(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, heights.iter().map(of_frame).collect());
    // Of a single frame nothing comes after another.
    if heights.len() == 1 {
        return;
    }
    let pointer = PrimitiveValue::Tags(vec![tags::SLICE_LOCATION_VECTOR].into());
    object.put(DataElement::new(tags::FRAME_INCREMENT_POINTER, VR::AT, pointer));
    decimals(object, tags::SLICE_LOCATION_VECTOR, &heights);
}

/// What the stored numbers mean.
fn mapping(scale: &Scale, labels: &Labels) -> DataElement<InMemDicomObject> {
    let mut unit = InMemDicomObject::new_empty();
    let (code, meaning) = match &labels.unit {
        Some(unit) => (unit.as_str(), unit.as_str()),
        None => ("1", "no units"),
    };
    text(&mut unit, tags::CODE_VALUE, VR::SH, code);
    text(&mut unit, tags::CODING_SCHEME_DESIGNATOR, VR::SH, "UCUM");
    text(&mut unit, tags::CODE_MEANING, VR::LO, meaning);
    let mut map = InMemDicomObject::new_empty();
    number(&mut map, tags::REAL_WORLD_VALUE_FIRST_VALUE_MAPPED, 0);
    number(&mut map, tags::REAL_WORLD_VALUE_LAST_VALUE_MAPPED, u16::MAX);
    map.put(DataElement::new(
        tags::REAL_WORLD_VALUE_INTERCEPT,
        VR::FD,
        PrimitiveValue::from(scale.intercept),
    ));
    map.put(DataElement::new(tags::REAL_WORLD_VALUE_SLOPE, VR::FD, PrimitiveValue::from(scale.slope)));
    text(&mut map, tags::LUT_EXPLANATION, VR::LO, "Tracer");
    text(&mut map, tags::LUT_LABEL, VR::SH, "TRACER");
    sequence(&mut map, tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![unit]);
    DataElement::new(
        tags::REAL_WORLD_VALUE_MAPPING_SEQUENCE,
        VR::SQ,
        dicom_core::value::DataSetSequence::from(vec![map]),
    )
}

fn text(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

fn number(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, dicom_core::value::DataSetSequence::from(items)));
}

/// Decimal strings have 16 characters at most (PS3.5, 6.2).
fn decimals(object: &mut InMemDicomObject, tag: Tag, values: &[f64]) {
    let texts: Vec<String> = values.iter().map(|value| decimal(*value)).collect();
    object.put(DataElement::new(tag, VR::DS, PrimitiveValue::Strs(texts.into())));
}

fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 16 { plain } else { format!("{value:.8e}") }
}

/// A text of at most 64 characters, none of which means something else.
fn long(value: &str) -> String {
    value.chars().filter(|c| !c.is_control() && *c != '\\').take(64).collect()
}

/// A UID from a UUID (PS3.5, B.2), or from a new one if there is none.
fn uid(uuid: Option<&str>) -> Result<String, Error> {
    let text = match uuid.filter(|uuid| is_uuid_v4(uuid)) {
        Some(uuid) => uuid.to_owned(),
        None => {
            new_uuid().map_err(|source| Error::Io { action: "read", path: "/dev/urandom".into(), source })?
        }
    };
    let digits = text.chars().filter_map(|c| c.to_digit(16));
    Ok(format!("2.25.{}", digits.fold(0_u128, |number, digit| (number << 4) | u128::from(digit))))
}

/// Date and time of day in DICOM's forms; of now for what is no time, for there must be one.
fn moment(time: &str) -> (String, String) {
    let time = if is_time(time) { time.to_owned() } else { now() };
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect();
    let (date, clock) = time.split_once('T').unwrap_or((&time, ""));
    (digits(date), digits(clock.split('.').next().unwrap_or(clock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_number_of_its_uid() {
        let found = uid(Some("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")).unwrap();
        assert_eq!(found, format!("2.25.{}", 0xf81d_4fae_7dec_41d0_a765_00a0_c91e_6bf6_u128));
        assert!(found.len() <= 64);
        assert_ne!(uid(None).unwrap(), uid(Some("none")).unwrap());
    }

    #[test]
    fn numbers_fit_decimal_strings() {
        for (value, text) in
            [(0.5, "0.5"), (-1.0, "-1"), (1.0 / 3.0, "3.33333333e-1"), (-1e-9 / 3.0, "-3.33333333e-10")]
        {
            assert_eq!(decimal(value), text);
            assert!(text.len() <= 16);
        }
    }

    #[test]
    fn times_have_dicoms_forms() {
        assert_eq!(moment("2016-02-08T14:28:34.673"), ("20160208".to_owned(), "142834".to_owned()));
        let (date, clock) = moment("yesterday");
        assert_eq!((date.len(), clock.len()), (8, 6));
    }
}
