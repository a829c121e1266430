import Foundation

/// Executes the packages of a bundle. An app implements this protocol with Core AI or Core ML.
public protocol PackageRunner {
    /// Executes the package with the given name in the manifest, and returns its outputs.
    func run(_ package: String, _ inputs: [String: Tensor]) async throws -> [String: Tensor]
}

/// Draws the latents (1, C, h, w) of an image, like platform/pocketdit/export/app/draw.py.
public func drawLatents(
    prompt: String, seed: UInt64, bundle: URL, manifest: Manifest, runner: some PackageRunner
) async throws -> Tensor {
    var text: [String: Tensor] = [:]
    for (position, encoder) in manifest.text.encoders.enumerated() {
        guard let package = encoder.package else { throw BundleError.missing("text encoder \(position)") }
        let tokens = try tokenize(prompt, encoder: encoder, bundle: bundle)
        text["embeddings_\(position)"] = try output("embeddings", await runner.run(package, tokens))
        text["mask_\(position)"] = tokens["mask"]
    }
    let guidance = Float(manifest.sampling.guidance)
    let rows = guidance == 1 ? [text] : [text, hidden(text)]
    guard let declared = manifest.packages["transformer"]?.inputs["latents"]?.shape else {
        throw BundleError.missing("transformer")
    }
    let batch = declared[0], shape = [1] + declared.dropFirst()
    // Each group of rows requires one evaluation. A group that is smaller than the batch is padded with its last row.
    var groups: [(rows: Int, text: [String: Tensor])] = []
    for first in stride(from: 0, to: rows.count, by: batch) {
        let group = Array(rows[first..<min(first + batch, rows.count)])
        groups.append((group.count, try await runner.run("text_projection", stacked(group, batch))))
    }
    let noise = PortableNoise.noise(seed: seed, count: shape.reduce(1, *))
    let latents = try await sample(manifest.sampling.sampler, noise: noise, times: manifest.sampling.times) { x, time in
        var velocities: [[Float]] = []
        for group in groups {
            var inputs = group.text
            inputs["latents"] = Tensor(declared, (0..<batch).flatMap { _ in x })
            inputs["time"] = Tensor([batch], [Float](repeating: Float(time), count: batch))
            if manifest.packages["transformer"]?.inputs["lora_scale"] != nil { inputs["lora_scale"] = Tensor([1], [1]) }
            let velocity = try output("velocity", await runner.run("transformer", inputs)).floats
            velocities += (0..<group.rows).map { Array(velocity[$0 * x.count..<($0 + 1) * x.count]) }
        }
        guard guidance != 1 else { return velocities[0] }
        return zip(velocities[0], velocities[1]).map { $1 + guidance * ($0 - $1) }
    }
    return Tensor(Array(shape), latents)
}

/// Draws an image, and returns its red, green and blue values as bytes (3, height, width).
public func draw(
    prompt: String, seed: UInt64, bundle: URL, manifest: Manifest, runner: some PackageRunner
) async throws -> [UInt8] {
    let latents = try await drawLatents(prompt: prompt, seed: seed, bundle: bundle, manifest: manifest, runner: runner)
    let image = try output("image", await runner.run("decoder", ["latents": latents]))
    return image.floats.map { UInt8(((min(max($0, -1), 1) + 1) * 127.5).rounded(.toNearestOrEven)) }
}

func output(_ name: String, _ outputs: [String: Tensor]) throws -> Tensor {
    guard let tensor = outputs[name] else { throw BundleError.missing(name) }
    return tensor
}

/// Returns the text inputs with all tokens hidden, as for an empty prompt.
func hidden(_ text: [String: Tensor]) -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: text.map { name, tensor in
        let isMask = name.hasPrefix("mask")
        return (name, isMask ? Tensor(tensor.shape, [Float](repeating: 0, count: tensor.floats.count)) : tensor)
    })
}

/// Stacks rows of batch size 1 into a batch of size `batch`. The last row is repeated to fill the batch.
func stacked(_ rows: [[String: Tensor]], _ batch: Int) -> [String: Tensor] {
    let repeated = rows + Array(repeating: rows[rows.count - 1], count: batch - rows.count)
    return rows[0].mapValues { $0 }.reduce(into: [:]) { result, entry in
        let parts = repeated.compactMap { $0[entry.key] }
        result[entry.key] = Tensor([batch] + entry.value.shape.dropFirst(), parts.flatMap(\.floats))
    }
}
