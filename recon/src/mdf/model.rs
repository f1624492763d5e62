//! An MDF file's metadata as typed sections. Reading and writing follow from one list of fields per section; types,
//! shapes and needs are those of [`super::fields`].

use num_complex::Complex;

use super::check::Finding;
use super::leaf::{Leaf, Reader, Sink};
use crate::Error;

/// Elements with a shape, slowest dimension first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Array<T> {
    /// Lengths of the dimensions.
    pub shape: Vec<usize>,
    /// Elements, last dimension fastest. Their number is the product of the shape.
    pub data: Vec<T>,
}

impl<T> Array<T> {
    /// An array.
    #[must_use]
    pub fn new(shape: &[usize], data: Vec<T>) -> Self {
        Self { shape: shape.to_vec(), data }
    }
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident in $group:literal { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $path:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Paths of its fields.
            pub const PATHS: &[&str] = &[$(concat!($group, "/", $path),)*];

            fn read(reader: &Reader<'_>) -> Result<Self, Error> {
                Ok(Self { $($field: <$kind>::load(reader, concat!($group, "/", $path))?,)* })
            }

            fn store(&self, sink: &mut Sink) {
                $(self.$field.store(sink, concat!($group, "/", $path));)*
            }
        }
    };
}

section! {
    /// The fields of the root.
    Root in "" {
        /// When the file was made: UTC, `yyyy-mm-ddThh:mm:ss.ms`.
        time: String = "time",
        /// The file's UUID.
        uuid: String = "uuid",
        /// Version of MDF: `2.0.0`, `2.0.1` or `2.1.0`. The writer puts its own in.
        version: String = "version",
    }
}
section! {
    /// The study that an experiment belongs to.
    Study in "/study" {
        /// Description.
        description: String = "description",
        /// Name.
        name: String = "name",
        /// Number.
        number: i64 = "number",
        /// When it began, in UTC.
        time: Option<String> = "time",
        /// UUID.
        uuid: String = "uuid",
    }
}
section! {
    /// One experiment.
    Experiment in "/experiment" {
        /// Description.
        description: String = "description",
        /// Simulated, not measured.
        is_simulation: bool = "isSimulation",
        /// Name.
        name: String = "name",
        /// Number within the study.
        number: i64 = "number",
        /// What was imaged.
        subject: String = "subject",
        /// UUID.
        uuid: String = "uuid",
    }
}
section! {
    /// What is in the bore; A tracers.
    Tracer in "/tracer" {
        /// Batches; A.
        batch: Array<String> = "batch",
        /// Concentrations in mol(solute)/L; A.
        concentration: Array<f64> = "concentration",
        /// Times of injection in UTC; A.
        injection_time: Option<Array<String>> = "injectionTime",
        /// Names; A.
        name: Array<String> = "name",
        /// Solutes, such as `Fe`; A.
        solute: Array<String> = "solute",
        /// Vendors; A.
        vendor: Array<String> = "vendor",
        /// Volumes in L; A.
        volume: Array<f64> = "volume",
    }
}
section! {
    /// The scanner.
    Scanner in "/scanner" {
        /// Diameter of the bore in m.
        bore_size: Option<f64> = "boreSize",
        /// Where it stands.
        facility: String = "facility",
        /// Who made it.
        manufacturer: String = "manufacturer",
        /// Its name.
        name: String = "name",
        /// Who used it.
        operator: String = "operator",
        /// `FFP` or `FFL`.
        topology: String = "topology",
    }
}
section! {
    /// How fields were driven.
    DriveField in "/acquisition/drivefield" {
        /// Frequency that the dividers divide, in Hz.
        base_frequency: f64 = "baseFrequency",
        /// Length of a period in s.
        cycle: f64 = "cycle",
        /// Divider of the base frequency; D x F.
        divider: Array<i64> = "divider",
        /// D.
        num_channels: i64 = "numChannels",
        /// Phases in rad; J x D x F.
        phase: Array<f64> = "phase",
        /// Amplitudes in T/mu0; J x D x F.
        strength: Array<f64> = "strength",
        /// `sine`, `triangle` or `custom`; D x F.
        waveform: Array<String> = "waveform",
    }
}
section! {
    /// How signals were received.
    Receiver in "/acquisition/receiver" {
        /// Half the sampling frequency after decimation, in Hz.
        bandwidth: f64 = "bandwidth",
        /// Factor and offset from stored numbers to `unit`; C x 2.
        data_conversion_factor: Option<Array<f64>> = "dataConversionFactor",
        /// Factors from the coil's induction to the magnetic moment; C.
        induction_factor: Option<Array<f64>> = "inductionFactor",
        /// C.
        num_channels: i64 = "numChannels",
        /// V.
        num_sampling_points: i64 = "numSamplingPoints",
        /// Factors from the coil's to the stored signal by frequency; C x K.
        transfer_function: Option<Array<Complex<f64>>> = "transferFunction",
        /// Unit of the data, such as `V`.
        unit: String = "unit",
    }
}
section! {
    /// The fields of `/acquisition` itself.
    Sequence in "/acquisition" {
        /// Gradients in T/m/mu0; J x Y x 3 x 3.
        gradient: Option<Array<f64>> = "gradient",
        /// Periods averaged into one.
        num_averages: i64 = "numAverages",
        /// N.
        num_frames: i64 = "numFrames",
        /// J.
        num_periods_per_frame: i64 = "numPeriodsPerFrame",
        /// Offset fields in T/mu0; J x Y x 3.
        offset_field: Option<Array<f64>> = "offsetField",
        /// Start in UTC.
        start_time: String = "startTime",
    }
}
section! {
    /// What is said of the data of a measurement. The data themselves are read by [`super::data`] in parts.
    Measurement in "/measurement" {
        /// Which stored frame was measured when, from 1; N.
        frame_permutation: Option<Array<i64>> = "framePermutation",
        /// Which frequencies are stored, from 1, which is 0 Hz; K.
        frequency_selection: Option<Array<i64>> = "frequencySelection",
        /// The background was subtracted.
        is_background_corrected: bool = "isBackgroundCorrected",
        /// Which frames are background; N, 0 or 1.
        is_background_frame: Array<i64> = "isBackgroundFrame",
        /// Frames are the fastest dimension.
        is_fast_frame_axis: bool = "isFastFrameAxis",
        /// The data are spectra.
        is_fourier_transformed: bool = "isFourierTransformed",
        /// Frames are in another order than they were measured.
        is_frame_permutation: bool = "isFramePermutation",
        /// Only some frequencies are stored.
        is_frequency_selection: bool = "isFrequencySelection",
        /// Rows are sparse; `None` in files before version 2.1, whose rows never are.
        is_sparsity_transformed: Option<bool> = "isSparsityTransformed",
        /// Leakage of the spectrum was corrected.
        is_spectral_leakage_corrected: bool = "isSpectralLeakageCorrected",
        /// The transfer function was divided out.
        is_transfer_function_corrected: bool = "isTransferFunctionCorrected",
        /// `DCT-I` to `DCT-IV`.
        sparsity_transformation: Option<String> = "sparsityTransformation",
    }
}
section! {
    /// What a system matrix was measured on; O positions.
    Calibration in "/calibration" {
        /// Size of the delta sample in m; 3.
        delta_sample_size: Option<Array<f64>> = "deltaSampleSize",
        /// Extent of the grid in m; 3.
        field_of_view: Option<Array<f64>> = "fieldOfView",
        /// Centre of the grid in m; 3.
        field_of_view_center: Option<Array<f64>> = "fieldOfViewCenter",
        /// `robot`, `hybrid` or `simulation`.
        method: String = "method",
        /// Offset fields of a hybrid calibration in T/mu0; O x 3.
        offset_fields: Option<Array<f64>> = "offsetFields",
        /// Order of the grid's axes, fastest first; `xyz` if it is not there.
        order: Option<String> = "order",
        /// Positions in m; O x 3.
        positions: Option<Array<f64>> = "positions",
        /// Positions along x, y and z; 3.
        size: Option<Array<i64>> = "size",
        /// Signal-to-noise ratios; J x C x K.
        snr: Option<Array<f64>> = "snr",
    }
}
section! {
    /// Images.
    Reconstruction in "/reconstruction" {
        /// Voxels; Q x P x S.
        data: Array<f64> = "data",
        /// Extent in m; 3.
        field_of_view: Option<Array<f64>> = "fieldOfView",
        /// Centre in m; 3.
        field_of_view_center: Option<Array<f64>> = "fieldOfViewCenter",
        /// Which voxels lie outside of the drive field's reach; P, 0 or 1.
        is_overscan_region: Option<Array<i64>> = "isOverscanRegion",
        /// Order of the axes, fastest first; `xyz` if it is not there.
        order: Option<String> = "order",
        /// Positions in m; P x 3.
        positions: Option<Array<f64>> = "positions",
        /// Voxels along x, y and z; 3.
        size: Option<Array<i64>> = "size",
    }
}

/// How data were acquired.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Acquisition {
    /// Frames, periods and fields.
    pub sequence: Sequence,
    /// The drive field.
    pub drive_field: DriveField,
    /// The receiver.
    pub receiver: Receiver,
}

/// The metadata of one MDF file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mdf {
    /// Fields of the root.
    pub root: Root,
    /// `/study`.
    pub study: Study,
    /// `/experiment`.
    pub experiment: Experiment,
    /// `/tracer`; `None` if the bore was empty.
    pub tracer: Option<Tracer>,
    /// `/scanner`.
    pub scanner: Scanner,
    /// `/acquisition`.
    pub acquisition: Acquisition,
    /// `/measurement`.
    pub measurement: Option<Measurement>,
    /// `/calibration`.
    pub calibration: Option<Calibration>,
    /// `/reconstruction`.
    pub reconstruction: Option<Reconstruction>,
}

impl Mdf {
    /// Reads everything but the data of a measurement. What was read although the specification has it otherwise, such
    /// as an array of one element for a scalar, is in the findings. So is what is missing of the fields that only describe:
    /// texts are then empty, numbers 0, and arrays have no shape.
    ///
    /// # Errors
    ///
    /// Another mandatory field is missing, or a field has another type or rank than it should; [`super::check`] has them
    /// all.
    pub fn read(file: &super::File) -> Result<(Self, Vec<Finding>), Error> {
        let reader = Reader::new(file);
        let mdf = Self {
            root: Root::read(&reader)?,
            study: Study::read(&reader)?,
            experiment: Experiment::read(&reader)?,
            tracer: optional(&reader, "/tracer", Tracer::read)?,
            scanner: Scanner::read(&reader)?,
            acquisition: Acquisition {
                sequence: Sequence::read(&reader)?,
                drive_field: DriveField::read(&reader)?,
                receiver: Receiver::read(&reader)?,
            },
            measurement: optional(&reader, "/measurement", Measurement::read)?,
            calibration: optional(&reader, "/calibration", Calibration::read)?,
            reconstruction: optional(&reader, "/reconstruction", Reconstruction::read)?,
        };
        Ok((mdf, reader.into_findings()))
    }

    /// Lists every field for the writer.
    pub(super) fn store(&self, sink: &mut Sink) {
        self.root.store(sink);
        self.study.store(sink);
        self.experiment.store(sink);
        self.scanner.store(sink);
        self.acquisition.sequence.store(sink);
        self.acquisition.drive_field.store(sink);
        self.acquisition.receiver.store(sink);
        if let Some(tracer) = &self.tracer {
            tracer.store(sink);
        }
        if let Some(measurement) = &self.measurement {
            measurement.store(sink);
        }
        if let Some(calibration) = &self.calibration {
            calibration.store(sink);
        }
        if let Some(reconstruction) = &self.reconstruction {
            reconstruction.store(sink);
        }
    }
}

fn optional<T>(
    reader: &Reader<'_>,
    group: &str,
    read: impl Fn(&Reader<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    if reader.file().has_group(group) { read(reader).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::super::fields::{FIELDS, Need};
    use super::*;

    #[test]
    fn the_model_and_the_table_have_the_same_fields() {
        let model = [
            Root::PATHS,
            Study::PATHS,
            Experiment::PATHS,
            Tracer::PATHS,
            Scanner::PATHS,
            Sequence::PATHS,
            DriveField::PATHS,
            Receiver::PATHS,
            Measurement::PATHS,
            Calibration::PATHS,
            Reconstruction::PATHS,
        ]
        .concat();
        // What is read in parts is not in the model.
        let parts = ["/measurement/data", "/measurement/subsamplingIndices"];
        let mut table: Vec<_> = FIELDS
            .iter()
            .filter(|field| field.need != Need::Extension && !parts.contains(&field.path))
            .collect();
        table.retain(|field| !model.contains(&field.path));
        assert!(table.is_empty(), "not in the model: {table:?}");
        assert!(model.iter().all(|path| FIELDS.iter().any(|field| field.path == *path)));
    }
}
