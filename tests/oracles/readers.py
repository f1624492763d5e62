"""Reads an image as other programs do: `readers.py NAME FILE` prints its size, where its voxels are, and their values, as JSON.

The place is the affine map from the index of a voxel (x, y, z) to millimetres to the right, to the front and upwards; values are x fastest.
"""

import json
import sys

import numpy as np

# DICOM and ITK count to the left and to the back.
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nibabel_(path):
    import nibabel

    image = nibabel.load(path)
    assert np.allclose(image.get_qform(), image.get_sform()), "the two ways to say the place differ"
    assert image.header.get_xyzt_units()[0] == "mm"
    return image.affine, np.asarray(image.dataobj)


def pynrrd(path):
    import nrrd

    data, header = nrrd.read(path)
    assert header["space"] == "right-anterior-superior" and header["space units"] == ["mm"] * 3
    affine = np.eye(4)
    affine[:3, :3] = header["space directions"][:3].T
    affine[:3, 3] = header["space origin"]
    return affine, data


def simpleitk(path):
    import SimpleITK

    image = SimpleITK.ReadImage(path)
    n = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (n, n))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return TO_RAS @ affine, SimpleITK.GetArrayFromImage(image).T


def pydicom_(path):
    import pydicom

    file = pydicom.dcmread(path)
    frames = file.pixel_array.reshape(-1, file.Rows, file.Columns)
    shared = file.SharedFunctionalGroupsSequence[0]
    rows, columns = (float(edge) for edge in shared.PixelMeasuresSequence[0].PixelSpacing)
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    places = [
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for frame in file.PerFrameFunctionalGroupsSequence
    ]
    apart = float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices)
    step = places[1] - places[0] if len(places) > 1 else apart * np.cross(along[0], along[1])
    assert np.isclose(np.linalg.norm(step), apart)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along[0] * columns, along[1] * rows, step], axis=1)
    affine[:3, 3] = places[0]
    means = file.RealWorldValueMappingSequence[0]
    values = frames * means.RealWorldValueSlope + means.RealWorldValueIntercept
    return TO_RAS @ affine, values.transpose(2, 1, 0)


def slicer(path):
    import slicer
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    scene = slicer.vtkMRMLScene()
    node = slicer.vtkMRMLScalarVolumeNode()
    is_nrrd = path.endswith(".nrrd")
    storage = slicer.vtkMRMLNRRDStorageNode() if is_nrrd else slicer.vtkMRMLVolumeArchetypeStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(path)
    assert storage.ReadData(node) == 1, "3D Slicer does not read it"
    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])
    image = node.GetImageData()
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    return affine, values.reshape(image.GetDimensions(), order="F")


READERS = {
    "nibabel": nibabel_,
    "pynrrd": pynrrd,
    "SimpleITK": simpleitk,
    "pydicom": pydicom_,
    "slicer": slicer,
}

affine, values = READERS[sys.argv[1]](sys.argv[2])
print(
    json.dumps(
        {
            "size": list(values.shape),
            "affine": np.asarray(affine, dtype=float).tolist(),
            "values": np.asarray(values, dtype=float).ravel(order="F").tolist(),
        }
    )
)
