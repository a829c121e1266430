import Foundation

/// Executes the packages of a bundle. An app implements this protocol with Core AI or Core ML.
public protocol PackageRunner {
    /// Executes the package with the given name in the manifest, and returns its outputs.
    func run(_ package: String, _ inputs: [String: Tensor]) async throws -> [String: Tensor]
}

/// Draws the latents (1, C, h, w) of an image, like platform/pocketdit/export/app/draw.py.
///
/// - Parameters:
///   - prompt: The prompt. With an empty prompt, the image is drawn without text conditioning.
///   - seed: Seed of the noise.
///   - steps: Number of sampling steps. If it is nil, the number in the manifest is used, which is the only one that
///     works if `manifest.sampling.fixedSteps` is true.
///   - loraScale: Strength of a LoRA that the bundle keeps separate: 1 for the fine-tuned network, 0 for the original.
///   - bundle: Folder of the bundle.
///   - manifest: Manifest of the bundle.
///   - runner: Executes the packages.
public func drawLatents(
    prompt: String, seed: UInt64, steps: Int? = nil, loraScale: Float = 1, bundle: URL, manifest: Manifest,
    runner: some PackageRunner
) async throws -> Tensor {
    let times = try manifest.sampling.times(steps: steps)
    let transformer = manifest.packages["transformer"]?.inputs ?? [:]
    let hasLora = transformer["lora_scale"] != nil
    guard hasLora || loraScale == 1 else {
        throw BundleError.invalidArgument("loraScale: the bundle has no separate LoRA; export a run with lora=kept")
    }
    guard let declared = transformer["latents"]?.shape else {
        throw BundleError.incomplete("packages: the bundle has no transformer with latents")
    }
    let guidance = manifest.sampling.guidance
    let text = try await embedded(prompt, bundle: bundle, manifest: manifest, runner: runner)
    let rows = guidance == 1 ? [text] : [text, hidden(text)]
    let batch = declared[0], shape = [1] + declared.dropFirst()
    // Each group of rows requires one evaluation. A group that is smaller than the batch is padded with its last row.
    var groups: [(rows: Int, text: [String: Tensor])] = []
    for first in stride(from: 0, to: rows.count, by: batch) {
        let group = Array(rows[first..<min(first + batch, rows.count)])
        let projected = try await outputs(of: "text_projection", stacked(group, batch), manifest, runner)
        groups.append((group.count, projected))
    }
    let noise = PortableNoise.noise(seed: seed, count: shape.reduce(1, *))
    let latents = try await sample(manifest.sampling.sampler, noise: noise, times: times) { x, time in
        var velocities: [[Float]] = []
        for group in groups {
            var inputs = group.text
            inputs["latents"] = Tensor(declared, (0..<batch).flatMap { _ in x })
            inputs["time"] = Tensor([batch], [Float](repeating: Float(time), count: batch))
            if hasLora { inputs["lora_scale"] = Tensor([1], [loraScale]) }
            let velocity = try output("velocity", await outputs(of: "transformer", inputs, manifest, runner))
            velocities += (0..<group.rows).map { Array(velocity.floats[$0 * x.count..<($0 + 1) * x.count]) }
        }
        guard guidance != 1 else { return velocities[0] }
        return zip(velocities[0], velocities[1]).map { $1 + Float(guidance) * ($0 - $1) }
    }
    return Tensor(Array(shape), latents)
}

/// Draws an image, and returns its bytes (3, height, width): all red values, then all green and all blue values.
///
/// See `drawLatents` for the parameters. Throws a `BundleError` if the bundle lacks a text encoder or the decoder, or
/// if the image contains NaN or infinity.
public func draw(
    prompt: String, seed: UInt64, steps: Int? = nil, loraScale: Float = 1, bundle: URL, manifest: Manifest,
    runner: some PackageRunner
) async throws -> [UInt8] {
    guard manifest.packages["decoder"] != nil else {
        throw BundleError.incomplete("decoder: the bundle has none, so no image can be drawn; export it with a decoder")
    }
    let latents = try await drawLatents(
        prompt: prompt, seed: seed, steps: steps, loraScale: loraScale, bundle: bundle, manifest: manifest,
        runner: runner)
    return try bytes(output("image", await outputs(of: "decoder", ["latents": latents], manifest, runner)).floats)
}

/// Converts an image from -1 to 1 to bytes. Values outside this range are clamped.
func bytes(_ image: [Float]) throws -> [UInt8] {
    guard image.allSatisfy(\.isFinite) else {
        throw BundleError.invalidOutput(
            "decoder: the image contains NaN or infinity; check the weights and their precision, and use a smaller "
                + "guidance scale")
    }
    return image.map { UInt8(((min(max($0, -1), 1) + 1) * 127.5).rounded(.toNearestOrEven)) }
}

/// Runs the text encoders, and returns the text projection's inputs: embeddings and masks of batch size 1.
func embedded(
    _ prompt: String, bundle: URL, manifest: Manifest, runner: some PackageRunner
) async throws -> [String: Tensor] {
    if let position = manifest.text.encoders.firstIndex(where: { $0.package == nil }) {
        throw BundleError.incomplete(
            "text.encoders.\(position): the encoder is not in the bundle, so no image can be drawn; export again with "
                + "only the other text encoders")
    }
    var text: [String: Tensor] = [:]
    for (position, encoder) in manifest.text.encoders.enumerated() {
        let tokens = try PromptTokenizer(encoder, bundle: bundle).tokenize(prompt)
        let result = try await outputs(of: encoder.package ?? "", tokens, manifest, runner)
        text["embeddings_\(position)"] = try output("embeddings", result)
        text["mask_\(position)"] = tokens["mask"]
    }
    return text
}

/// Executes a package, and checks that it returns the outputs in the manifest with their numbers of elements.
func outputs(
    of package: String, _ inputs: [String: Tensor], _ manifest: Manifest, _ runner: some PackageRunner
) async throws -> [String: Tensor] {
    let result = try await runner.run(package, inputs)
    for (name, type) in manifest.packages[package]?.outputs ?? [:] {
        let expected = type.shape.reduce(1, *), actual = try output(name, result).floats.count
        guard actual == expected else {
            throw BundleError.invalidOutput("\(package): returned \(actual) numbers for \(name) instead of \(expected)")
        }
    }
    return result
}

func output(_ name: String, _ outputs: [String: Tensor]) throws -> Tensor {
    guard let tensor = outputs[name] else {
        throw BundleError.invalidOutput("\(name): the package has returned no such output")
    }
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
    let last = rows[rows.count - 1]
    let repeated = rows + Array(repeating: last, count: batch - rows.count)
    return last.reduce(into: [:]) { result, entry in
        let parts = repeated.compactMap { $0[entry.key]?.floats }
        result[entry.key] = Tensor([batch] + entry.value.shape.dropFirst(), parts.flatMap { $0 })
    }
}
