"""Writes the .blend that objects → splats is measured with: python tests/bench/suzanne.py FILE, with bpy.

Suzanne, smooth, with a procedural material (noise, voronoi, some gloss), under a sun, a lamp and a grey sky.
"""

import sys

import bpy

bpy.ops.wm.read_homefile(use_empty=True)
bpy.ops.mesh.primitive_monkey_add(location=(1.0, 2.0, 1.2), rotation=(0, 0, 0.4))
suzanne = bpy.context.object
suzanne.modifiers.new("Subdivision", "SUBSURF").render_levels = 3
bpy.ops.object.shade_smooth()
material = bpy.data.materials.new("Procedural")
material.use_nodes = True
nodes, links = material.node_tree.nodes, material.node_tree.links
shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
noise, cells, ramp = (nodes.new(f"ShaderNode{kind}") for kind in ("TexNoise", "TexVoronoi", "ValToRGB"))
place = nodes.new("ShaderNodeTexCoord")
for texture, scale in ((noise, 6.0), (cells, 5.0)):
    texture.inputs["Scale"].default_value = scale
    links.new(place.outputs["Object"], texture.inputs["Vector"])
mix = nodes.new("ShaderNodeMix")
mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
mix.inputs["Factor"].default_value = 0.6
ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[0].color = 0.42, (0.05, 0.25, 0.5, 1)
ramp.color_ramp.elements[1].position, ramp.color_ramp.elements[1].color = 0.58, (0.9, 0.45, 0.08, 1)
links.new(noise.outputs[0], ramp.inputs[0])
links.new(ramp.outputs[0], mix.inputs["A"])
links.new(cells.outputs["Color"], mix.inputs["B"])
links.new(mix.outputs["Result"], shader.inputs["Base Color"])
shader.inputs["Roughness"].default_value = 0.45
suzanne.data.materials.append(material)

bpy.ops.object.light_add(type="SUN", rotation=(0.7, 0.3, 0.5))
bpy.context.object.data.energy = 2.5
bpy.ops.object.light_add(type="AREA", location=(-2, 3, 4))
bpy.context.object.data.energy = 80
world = bpy.data.worlds.new("World")
world.use_nodes = True
world.node_tree.nodes["Background"].inputs[0].default_value = (0.35, 0.38, 0.45, 1)
scene = bpy.context.scene
scene.world, scene.render.engine = world, "CYCLES"
scene.cycles.samples = 32
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
