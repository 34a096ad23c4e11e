"""Display blending: splats composited as splat viewers do it, on a view layer of their own.

Splat viewers mix sRGB values; Blender mixes light. So the splats are rendered alone with their values
untouched, everything else held out where it hides them, and the finished layer is converted to light once.
Added to the other layer, in which the splats are held out, it shows under the Standard view transform what
splat viewers show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy

LAYER_NAME = "Display Splats"
# On the layer and on its collection: names change, by artists and by Blender's ".001".
_MARK = "diorama_display"
_HELD = "diorama_held_out"
_UNSEEN = {"CAMERA", "LIGHT", "LIGHT_PROBE", "SPEAKER", "ARMATURE", "LATTICE"}


def show_in_display_layer(
    scene: bpy.types.Scene, splats: bpy.types.Object, parent: bpy.types.Collection
) -> list[str]:
    """Put splats with display blending into the layer that shows them right, which is made if there is none.

    Args:
        splats: an object that is in no collection yet.
        parent: a collection of the scene, in which the splats get one of their own.

    Returns:
        What was changed in the scene, in words.
    """
    home = next((child for child in parent.children if _is_ours(child)), None)
    if home is None:
        home = bpy.data.collections.new(LAYER_NAME)
        home[_MARK] = True
        parent.children.link(home)
    home.objects.link(splats)
    changes = []
    if not in_use(scene):
        other = scene.view_layers[0].name
        made = scene.view_layers.new(LAYER_NAME)
        made[_MARK] = True
        made.use_sky = False
        changes += _own_compositor(scene)
        _composite(scene, other, made.name)
        changes.append(f"View layer and compositor nodes for {made.name} added")
    before = set(scene.collection.children)
    hold_out_others(scene)
    changes += [
        f"Objects directly in the scene are in {made.name} too"
        for made in set(scene.collection.children) - before
        if _HELD in made
    ]
    if not scene.render.use_compositing:
        changes.append("Post Processing > Compositing is off: the splats will not be in renders")
    return changes


def take_out(scene: bpy.types.Scene, body: bpy.types.Object) -> None:
    """Take an object out of the splats with display blending, and put it beside them."""
    for home in [each for each in body.users_collection if _is_ours(each)]:
        parents = [scene.collection, *scene.collection.children_recursive]
        parent = next((each for each in parents if home.name in each.children), scene.collection)
        home.objects.unlink(body)
        if body.name not in parent.objects:
            parent.objects.link(body)
    hold_out_others(scene)


def put_back(scene: bpy.types.Scene, body: bpy.types.Object) -> list[str]:
    """Put an object among the splats with display blending, where it stands; says what was changed."""
    homes = list(body.users_collection)
    for home in homes:
        home.objects.unlink(body)
    home = next((each for each in homes if _HELD not in each), scene.collection)
    return show_in_display_layer(scene, body, home)


def hold_out_others(scene: bpy.types.Scene) -> None:
    """Let the splat layer hold out all collections but the splats, and all other layers the splats.

    Does nothing in a scene without display blending. Blender holds out collections, not the objects directly
    in the scene: these are also put into a collection that is.
    """
    if not in_use(scene):
        return
    if direct := _direct(scene):
        home = next((each for each in scene.collection.children if _HELD in each), None)
        if home is None:
            home = bpy.data.collections.new(f"Held Out of {LAYER_NAME}")
            home[_HELD] = True
            scene.collection.children.link(home)
        for item in direct:
            home.objects.link(item)
    for layer in scene.view_layers:
        for child in _below(layer.layer_collection):
            if _is_ours(layer) or _is_ours(child.collection):
                child.holdout = _is_ours(layer) != _is_ours(child.collection)


def in_use(scene: bpy.types.Scene) -> bool:
    """Whether a scene has a layer of splats with display blending."""
    return any(_is_ours(layer) for layer in scene.view_layers)


def obstacles(scene: bpy.types.Scene) -> list[str]:
    """What keeps the layer of splats from showing in renders as it should, in words."""
    if not in_use(scene):
        return []
    found = sorted(item.name for item in _direct(scene))
    return [f"Not held out of {LAYER_NAME}: {', '.join(found)}"] if found else []


def _direct(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Objects that can be seen and are in no collection of the scene, where they could be held out."""
    held = {item for child in scene.collection.children_recursive for item in child.objects}
    return [
        item
        for item in scene.collection.objects
        if item not in held
        and item.type not in _UNSEEN
        and (item.type != "EMPTY" or item.instance_type != "NONE")
    ]


def _below(parent: bpy.types.LayerCollection) -> Iterator[bpy.types.LayerCollection]:
    """All collections in one, those in others too: none hands its holdout down."""
    for child in parent.children:
        yield child
        yield from _below(child)


def _is_ours(item: bpy.types.ViewLayer | bpy.types.Collection) -> bool:
    return _MARK in item or item.name == LAYER_NAME  # older files have no marks


def _composite(scene: bpy.types.Scene, other_layer: str, splat_layer: str) -> None:
    """Add the converted splat layer to what the scene's compositor has made of the other layer."""
    tree = _compositor(scene)
    kind = "CompositorNodeComposite" if bpy.app.version < (5, 0) else "NodeGroupOutput"
    output = next((node for node in tree.nodes if node.bl_idname == kind), None) or tree.nodes.new(kind)
    if not output.inputs[0].is_linked:
        tree.links.new(_layer(tree, scene, other_layer).outputs["Image"], output.inputs[0])
    before = output.inputs[0].links[0].from_socket
    splats = _layer(tree, scene, splat_layer)
    opaque = _set_alpha(tree, splats.outputs["Image"], 1.0)  # values, not alpha, are what is converted
    convert = tree.nodes.new("CompositorNodeConvertColorSpace")
    convert.from_color_space, convert.to_color_space = "sRGB", "Linear Rec.709"
    tree.links.new(opaque.outputs[0], convert.inputs[0])
    light = _set_alpha(tree, convert.outputs[0], 0.0)  # alpha over with alpha 0 adds
    add = tree.nodes.new("CompositorNodeAlphaOver")
    below, above = (socket for socket in add.inputs if socket.type == "RGBA")
    tree.links.new(before, below)
    tree.links.new(light.outputs[0], above)
    alpha = tree.nodes.new("ShaderNodeMath" if bpy.app.version >= (5, 0) else "CompositorNodeMath")
    alpha.operation = "ADD"
    tree.links.new(_alpha(tree, before), alpha.inputs[0])
    tree.links.new(splats.outputs["Alpha"], alpha.inputs[1])
    both = _set_alpha(tree, add.outputs[0], alpha.outputs[0])
    tree.links.new(both.outputs[0], output.inputs[0])
    for column, node in enumerate((splats, opaque, convert, light, add, both, output)):
        node.location = (200 * column, -400)
    alpha.location = (800, -700)


def _own_compositor(scene: bpy.types.Scene) -> list[str]:
    """Give a scene compositing nodes of its own if it shares them with another, where no splats belong."""
    if bpy.app.version < (5, 0):
        return []  # there, every scene has its own
    owner, name = _compositor_slot(scene)
    tree = getattr(owner, name)
    if tree is None or (tree.users - tree.use_fake_user <= 1 and not tree.library):
        return []
    setattr(owner, name, tree.copy())
    return [f"The scene has a copy of the compositor nodes {tree.name} of its own"]


def _compositor_slot(scene: bpy.types.Scene) -> tuple[Any, str]:
    """What has the scene's compositing nodes, and by which name."""
    if hasattr(scene, "compositor_effects"):  # from 5.3: a stack of such groups
        return scene.compositor_effects.active or scene.compositor_effects.new("Scene"), "node_group"
    return scene, "compositing_node_group"


def _compositor(scene: bpy.types.Scene) -> bpy.types.NodeTree:
    """The scene's compositing nodes, made if there are none."""
    if bpy.app.version < (5, 0):
        scene.use_nodes = True
        return scene.node_tree
    owner, name = _compositor_slot(scene)
    tree = getattr(owner, name)
    if tree is None:
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        setattr(owner, name, tree)
    if not any(item.item_type == "SOCKET" and item.in_out == "OUTPUT" for item in tree.interface.items_tree):
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    return tree


def _layer(tree: bpy.types.NodeTree, scene: bpy.types.Scene, name: str) -> bpy.types.Node:
    node = tree.nodes.new("CompositorNodeRLayers")
    node.scene, node.layer = scene, name
    return node


def _set_alpha(
    tree: bpy.types.NodeTree, image: bpy.types.NodeSocket, alpha: float | bpy.types.NodeSocket
) -> bpy.types.Node:
    node = tree.nodes.new("CompositorNodeSetAlpha")
    if bpy.app.version >= (5, 0):
        node.inputs["Type"].default_value = "Replace Alpha"
    else:
        node.mode = "REPLACE_ALPHA"
    tree.links.new(image, node.inputs["Image"])
    if isinstance(alpha, float):
        node.inputs["Alpha"].default_value = alpha
    else:
        tree.links.new(alpha, node.inputs["Alpha"])
    return node


def _alpha(tree: bpy.types.NodeTree, image: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
    node = tree.nodes.new("CompositorNodeSeparateColor")
    tree.links.new(image, node.inputs[0])
    return node.outputs["Alpha"]
