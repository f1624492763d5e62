"""Takes one image as 3D Slicer would: `igtl.py PORT DEVICE` connects, waits for an IMAGE message and prints it as JSON."""

import json
import sys

import numpy as np
import pyigtl

client = pyigtl.OpenIGTLinkClient("127.0.0.1", int(sys.argv[1]))
message = client.wait_for_message(sys.argv[2], timeout=60)
assert message is not None, "no image came"
affine = np.array(message.ijk_to_world_matrix, dtype=float)
if message.world_coordinate_system == "lps":
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
# pyigtl's axes are z, y, x and components.
values = np.asarray(message.image, dtype=float)
values = values.reshape(values.shape[:3])
print(
    json.dumps(
        {
            "size": list(values.shape[::-1]),
            "affine": affine.tolist(),
            "values": values.ravel().tolist(),
            "timestamp": message.timestamp,
        }
    )
)
client.stop()
